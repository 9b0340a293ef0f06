"""fsspec's storage options in obstore's words; None where something cannot be said in them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from jobspan.store.locations import Location

__all__ = ["build_store", "is_certain", "translate"]

_S3 = {"s3", "s3a"}
_GCS = {"gs", "gcs"}
_AZURE = {"az", "abfs", "abfss", "adl"}

_S3_NAMES = {
    "key": "access_key_id",
    "aws_access_key_id": "access_key_id",
    "secret": "secret_access_key",
    "aws_secret_access_key": "secret_access_key",
    "token": "session_token",
    "aws_session_token": "session_token",
    "anon": "skip_signature",
    "endpoint_url": "endpoint",
    "region_name": "region",
    "requester_pays": "request_payer",
}
_AZURE_NAMES = {
    "account_name": "account_name",
    "account_key": "account_key",
    "sas_token": "sas_key",
    "tenant_id": "tenant_id",
    "client_id": "client_id",
    "client_secret": "client_secret",
}
_CONNECTION_STRING_NAMES = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}


def translate(location: Location, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return obstore's configuration for fsspec's options, None where there is none.

    Examples
    --------
    >>> from jobspan.store.locations import parse_location
    >>> here = parse_location("s3://bucket")
    >>> translate(here, {"key": "k", "client_kwargs": {"region_name": "eu-west-1"}})
    {'region': 'eu-west-1', 'access_key_id': 'k'}
    >>> translate(here, {"profile": "work"}) is None
    True
    """
    given = {name: value for name, value in options.items() if value is not None}
    if location.scheme in _S3:
        return _renamed({**given.pop("client_kwargs", {}), **given}, _S3_NAMES)
    if location.scheme in _GCS:
        return _translate_gcs(given)
    if location.scheme in _AZURE:
        return _translate_azure(location, given)
    return None


def is_certain(location: Location, options: Mapping[str, Any]) -> bool:
    """Tell whether obstore signs in as fsspec would: credentials and region are given, not found.

    fsspec's libraries look into configuration files of the user's, which obstore does not read.
    """
    config = translate(location, options)
    if config is None:
        return False
    if location.scheme in _S3:
        known = config.get("skip_signature") or "access_key_id" in config
        environment = "AWS_ACCESS_KEY_ID" in os.environ and "AWS_PROFILE" not in os.environ
        region = "region" in config or "endpoint" in config or "AWS_REGION" in os.environ
        return bool((known or environment) and region)
    if location.scheme in _GCS:
        return False  # no server at hand shows that its conditions are kept
    return bool({"account_key", "sas_key", "skip_signature", "client_secret"} & config.keys())


def build_store(location: Location, options: Mapping[str, Any], retries: dict[str, Any]) -> Any:
    """Make obstore's store for a location.

    Raises
    ------
    ValueError
        If an option cannot be translated.
    """
    from obstore import store as stores

    config = translate(location, options)
    if config is None:
        raise ValueError(
            f"of the storage options {sorted(options)} some have no counterpart in obstore. "
            f"Pass engine='fsspec'"
        )
    address = str(config.get("endpoint", config.get("base_url", "")))
    client = {
        "connect_timeout": "5s",
        "read_timeout": "30s",
        "timeout": "1h",
        "allow_http": address.startswith("http://"),
    }
    common: dict[str, Any] = {"client_options": client, "retry_config": retries}
    if location.scheme in _S3:
        return stores.S3Store(location.bucket, **config, **common)
    if location.scheme in _GCS:
        return stores.GCSStore(location.bucket, **config, **common)
    return stores.AzureStore(location.bucket.partition("@")[0], **config, **common)


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any] | None:
    if not given.keys() <= names.keys():
        return None
    return {names[name]: value for name, value in given.items() if value is not False}


def _translate_gcs(given: dict[str, Any]) -> dict[str, Any] | None:
    config: dict[str, Any] = {}
    token = given.pop("token", None)
    given.pop("project", None)  # only needed for making buckets
    endpoint = given.pop("endpoint_url", None)
    if token == "anon" and endpoint is not None:
        # obstore signs writes always, except with such a key, which is made for emulators.
        nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        key = {"gcs_base_url": endpoint, "disable_oauth": True, **nobody}
        config["service_account_key"] = json.dumps(key)
    elif token == "anon":
        config["skip_signature"] = True
    elif isinstance(token, Mapping):
        config["service_account_key"] = json.dumps(dict(token))
    elif isinstance(token, str) and token.endswith(".json"):
        config["application_credentials"] = os.path.expanduser(token)  # noqa: PTH111
    elif token is not None:
        return None
    if endpoint is not None:
        config["base_url"] = endpoint
    return None if given else config


def _translate_azure(location: Location, given: dict[str, Any]) -> dict[str, Any] | None:
    config: dict[str, Any] = {}
    host = location.bucket.partition("@")[2]
    if host:
        config["account_name"] = host.partition(".")[0]
    text = given.pop("connection_string", None)
    if text is not None:
        parts = dict(part.partition("=")[::2] for part in text.strip(";").split(";"))
        parts.pop("DefaultEndpointsProtocol", None)
        if parts.pop("EndpointSuffix", "core.windows.net") != "core.windows.net":
            return None
        found = _renamed(parts, _CONNECTION_STRING_NAMES)
        if found is None:
            return None
        config |= found
    if given.pop("anon", False):
        config["skip_signature"] = True
    found = _renamed(given, _AZURE_NAMES)
    return None if found is None else {**config, **found}
