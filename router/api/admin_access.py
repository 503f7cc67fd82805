"""Who may do what in the admin API: by role for each route, before a body is read, and by team for each entry.

- admin: everything.
- manager: reads its own team's entries; makes, replaces and revokes its keys of role application or viewer that are not
  trusted; sets the budgets of its projects, keys and users, but not its own.
- viewer: reads what a manager reads.
- application: nothing.

Whoever may see one team only is told of the others' entries what is told of those that there are not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import redis
from fastapi import APIRouter, Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import Field

from policies.budget import SubjectKind
from router.errors import AdminRequired, InvalidRequest, RecordNotFound, StoreUnavailable
from router.stores.administration import key_of, unknown_team
from router.stores.base import AdminStores, DirectoryError, KeyInfo, Principal, Role, UnknownEntryError

ADMINS: tuple[Role, ...] = ("admin",)
MANAGERS: tuple[Role, ...] = ("admin", "manager")
READERS: tuple[Role, ...] = ("admin", "manager", "viewer")
_ROLES_A_MANAGER_GIVES: tuple[Role, ...] = ("application", "viewer")
_SUBJECTS_A_MANAGER_LIMITS: tuple[SubjectKind, ...] = ("project", "key", "user")

# For the documentation's sake: the route itself has looked at the key before.
_BEARER = HTTPBearer(auto_error=False, description="A key of role admin, manager or viewer.")

Authenticate = Callable[[Request], Awaitable[Principal]]
Id = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""In a body, of what is looked up: PostgreSQL takes a NUL in no text."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is. All methods raise AdminRequired or UnknownEntryError."""

    key_id: str
    team_id: str
    role: Role

    @property
    def actor(self) -> str:
        """As the audit log names it."""
        return f"key:{self.key_id}"

    @property
    def only_team(self) -> str | None:
        """The one team that it may see; None for all."""
        return None if self.role == "admin" else self.team_id

    def scope(self, team_id: str | None) -> str | None:
        """The team whose entries to show, where `team_id` is asked for; None for those of all."""
        if self.only_team is None or team_id is None:
            return self.only_team or team_id
        if team_id != self.only_team:
            raise unknown_team(team_id)
        return team_id

    def check_key_terms(self, role: Role, trusted: bool) -> None:
        """A manager must not come by more rights than its own, be it through a key that it replaces."""
        if self.only_team is not None and (trusted or role not in _ROLES_A_MANAGER_GIVES):
            raise AdminRequired(
                "Only a key of role admin may make, replace or revoke trusted keys and keys of role manager or admin; "
                f"this one is a {self.role}'s."
            )

    def changeable_key(self, stores: AdminStores, key_id: str) -> KeyInfo:
        key = key_of(stores, key_id, self.only_team)
        self.check_key_terms(key.role, key.trusted)
        return key

    def check_subject(self, stores: AdminStores, kind: SubjectKind, subject_id: str) -> None:
        """Whether it may limit what `subject_id` uses."""
        if self.only_team is None:
            return
        if kind not in _SUBJECTS_A_MANAGER_LIMITS:
            raise AdminRequired(
                f"Only a key of role admin may change the budgets of {_OF_ADMINS[kind]}; this one is a {self.role}'s."
            )
        if kind == "key":
            key_of(stores, subject_id, self.only_team)
        elif kind == "user":
            self.scope(subject_id.partition("/")[0])
        else:
            self.check_project(stores, subject_id)

    def check_project(self, stores: AdminStores, project_id: str | None) -> None:
        """Whether it may name `project_id`; the stores would tell another team's from none."""
        if self.only_team is None or project_id is None:
            return
        if project_id not in [project.id for project in stores.directory.list_projects(self.only_team)]:
            raise UnknownEntryError(f"there is no project {project_id!r}; `parsimony projects list` shows them")


_OF_ADMINS: dict[SubjectKind, str] = {"organization": "the organization", "team": "a team itself", "tag": "tags"}


class _AdminRoute(APIRoute):
    """The border where callers are let in, and where the stores' errors become those of the API."""

    authenticate: ClassVar[Authenticate]
    roles: ClassVar[Collection[Role]]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        parameters = _parameters_of(self.dependant)

        async def translated(request: Request) -> Response:
            # Not as a dependency: FastAPI reads and parses the body before it asks those.
            principal = await type(self).authenticate(request)
            if principal.role not in self.roles:
                raise AdminRequired(
                    f"This needs a key of role {' or '.join(self.roles)}; the one given is of role {principal.role}."
                )
            request.state.caller = Caller(principal.key_id, principal.team_id, principal.role)
            _check_texts(request)
            if request.method == "GET":
                _check_names(request, parameters)
            try:
                return await handle(request)
            except UnknownEntryError as error:
                raise RecordNotFound(str(error)) from error
            except DirectoryError as error:
                raise InvalidRequest(str(error)) from error
            except redis.RedisError as error:
                raise StoreUnavailable(f"the budget counters are out of reach: {error}") from error

        return translated


def _parameters_of(dependant: Dependant) -> dict[str, None]:
    """The names that a query may have, its dependencies' included, in their order."""
    names = dict.fromkeys(parameter.alias for parameter in dependant.query_params)
    for each in dependant.dependencies:
        names |= _parameters_of(each)
    return names


def _check_names(request: Request, allowed: Collection[str]) -> None:
    """Raises InvalidRequest for a parameter that is none here: a filter that nobody reads would let everything in."""
    for name in request.query_params:
        if name not in allowed:
            known = f"allowed are {', '.join(allowed)}" if allowed else "none is allowed"
            raise InvalidRequest(f"there is no parameter {name!r} of {request.url.path}; {known}", param=name)


def _check_texts(request: Request) -> None:
    """Raises InvalidRequest for a NUL in the path or the query: PostgreSQL takes it in no text, and no name has one."""
    for name, value in (*request.path_params.items(), *request.query_params.multi_items()):
        if "\0" in value:
            raise InvalidRequest(f"{name} is {value!r}: a NUL can be in no name", param=name)


def router_for(authenticate: Authenticate, roles: Collection[Role]) -> APIRouter:
    """A router whose routes are for `roles` alone."""
    members = {"authenticate": staticmethod(authenticate), "roles": roles}
    return APIRouter(
        tags=["admin"],
        route_class=type("_LockedRoute", (_AdminRoute,), members),
        dependencies=[Depends(_BEARER)],
        responses={403: {"description": f"The key given is not of role {' or '.join(roles)}, or may not do this."}},
    )


def _caller_of(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(_caller_of)]
