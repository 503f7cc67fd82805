"""`S3Server`: moto's S3 over a socket, which checks every signature against the secrets that it has given out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.server import ThreadedMotoServer

BUCKET = "reports-of-parsimony"
_SETTING_UP = 3
"""Calls before signatures are checked: the user, its key and its rights."""


@dataclass(frozen=True)
class S3Server:
    url: str
    access_key: str
    secret_key: str

    def objects(self) -> dict[str, tuple[bytes, str]]:
        """What lies in the bucket: body and content type by key."""
        client = self._client()
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        found = {key: client.get_object(Bucket=BUCKET, Key=key) for key in keys}
        return {key: (answer["Body"].read(), answer["ContentType"]) for key, answer in found.items()}

    def make_bucket(self) -> None:
        self._client().create_bucket(Bucket=BUCKET)

    def _client(self) -> Any:
        options = Config(signature_version="s3v4", s3={"addressing_style": "path"})
        return _client("s3", self.url, self.access_key, self.secret_key, options)


def _client(service: str, url: str, access_key: str, secret_key: str, options: Config | None = None) -> Any:
    session = boto3.session.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key)
    return session.client(service, region_name="us-east-1", endpoint_url=url, config=options)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", _SETTING_UP)
        patch.setattr(ActionAuthenticatorMixin, "request_count", 0)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        try:
            host, port = server.get_host_and_port()
            url = f"http://{host}:{port}"
            httpx.post(f"{url}/moto-api/reset").raise_for_status()  # the last server's state is this one's, too
            access_key, secret_key = _writer_of_reports(url)
            found = S3Server(url, access_key, secret_key)
            found.make_bucket()
            yield found
        finally:
            server.stop()


def _writer_of_reports(url: str) -> tuple[str, str]:
    iam = _client("iam", url, "anyone", "anything")
    iam.create_user(UserName="reports")
    key = iam.create_access_key(UserName="reports")["AccessKey"]
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="reports", PolicyName="s3", PolicyDocument=document)
    return key["AccessKeyId"], key["SecretAccessKey"]
