"""What the environment says of the network: a proxy, and which authorities to trust.

aiohttp's own `trust_env` is not used: it asks the environment, and a `~/.netrc`, for every request,
each on a worker thread, and an entry in that file would take the place of our authorization.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from ackpt.errors import InvalidOptionError

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""What `requests`, and so Google's client, reads; SSL_CERT_FILE and SSL_CERT_DIR are OpenSSL's own."""


def proxy_for(base: str) -> URL | None:
    """Return the proxy for an endpoint: `https_proxy`, `http_proxy`, `all_proxy`, unless `no_proxy` names it.

    A user and a password stay in the URL, which goes to aiohttp and nowhere else.

    Raises:
        InvalidOptionError: the variable holds no URL; its value, which may hold a password, is not told.
    """
    url = URL(base)
    text = getproxies().get(url.scheme) or getproxies().get("all")
    if not text or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        proxy = URL()
    if not proxy.host:
        raise InvalidOptionError(
            f"the environment's proxy for {url.scheme} is no URL such as http://proxy:3128"
        )
    return proxy


def tls_context(variables: Sequence[str] = CA_VARIABLES) -> ssl.SSLContext:
    """Make the TLS settings; reads the authorities' files, so it blocks.

    The first of `variables` that is set names a file or a folder of further authorities.

    Raises:
        OSError: a file that a variable names cannot be read.
    """
    context = ssl.create_default_context()
    for variable in variables:
        path = os.environ.get(variable)
        if path:
            folder = os.path.isdir(path)
            context.load_verify_locations(cafile=None if folder else path, capath=path if folder else None)
            break
    return context
