"""`put`: an object in a store that speaks S3, signed (AWS Signature Version 4). The only importer of boto3.

boto3, because it is here already (litellm needs it), finds credentials wherever AWS puts them (environment, files,
roles of instances, pods and tasks), and is kept by those who made the protocol. Of its two rivals, minio brings four
more packages and obstore six megabytes, and neither knows all of those places.
"""

from __future__ import annotations

from typing import Any

from router.delivery.destinations import S3Destination
from router.errors import DeliveryFailed

_WORTH_REPEATING = frozenset(
    {"RequestTimeout", "RequestTimeTooSkewed", "SlowDown", "Throttling", "ThrottlingException"}
)


def put(destination: S3Destination, content: bytes, content_type: str) -> None:
    """Raises DeliveryFailed."""
    # A third of a second to import, and few need it.
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        _client(destination).put_object(
            Bucket=destination.bucket, Key=destination.key, Body=content, ContentType=content_type
        )
    except ClientError as error:
        raise _refused(destination, error.response) from error
    except NoCredentialsError as error:
        raise DeliveryFailed(f"{destination}: {error}", retryable=False) from error
    except (BotoCoreError, ValueError) as error:
        raise DeliveryFailed(f"{destination}: {error}", retryable=not isinstance(error, ValueError)) from error


def _client(destination: S3Destination) -> Any:
    import boto3
    from botocore.config import Config

    store = destination.store
    access_key, secret_key = destination.credentials or (None, None)
    settings = Config(
        signature_version="s3v4",
        connect_timeout=store.timeout_seconds,
        read_timeout=store.timeout_seconds,
        retries={"total_max_attempts": 1},  # whoever sent it tries again, and says so in the log
        # The hash of the body is part of the signature, so that checksums, which many stores do not know, add nothing.
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path" if store.path_style else "virtual", "payload_signing_enabled": True},
    )
    session = boto3.session.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key)
    return session.client("s3", region_name=store.region, endpoint_url=store.endpoint_url, config=settings)


def _refused(destination: S3Destination, response: Any) -> DeliveryFailed:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(response.get("Error", {}).get("Code", "?"))
    repeat = status >= 500 or status == 429 or code in _WORTH_REPEATING
    return DeliveryFailed(f"{destination}: {status} {code}", retryable=repeat)
