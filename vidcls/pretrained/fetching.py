"""Finds the file of weights at an address, and downloads it the first time.

hf://org/name[/file]   a file on the Hugging Face hub; the package huggingface_hub, if installed, keeps it in its cache
https://...            a file on the web; it goes into ~/.cache/vidcls/weights (XDG_CACHE_HOME replaces ~/.cache)

Any other address is the path of a local file. To download a file again, delete it from the cache.
"""

import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from absl import logging

from vidcls.errors import UserError
from vidcls.pretrained.plain import MOST_BYTES

HUB = 'hf://'
HUB_FILE = 'model.safetensors'  # the name of the file in Hugging Face's libraries
WEB = 'https://'  # not http://: anyone on the way could exchange the file
SCHEME = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')
PATIENCE = 60  # a download is given up after so many seconds without a byte


def name(address: str | Path) -> str:
    """Returns the name of the file at an address, without its folders.

    Raises:
      UserError: the address is of an unknown kind.
    """
    address = str(address)
    if address.startswith(HUB):
        return Path(_in_hub(address)[1]).name
    if address.startswith(WEB):
        return Path(urllib.parse.urlsplit(address).path).name
    if SCHEME.match(address):
        raise UserError(f'{address}: weights are a file, or at an address that begins with {WEB} or {HUB}')
    return Path(address).name


def locate(address: str | Path) -> Path:
    """Returns the path of the file at an address, and downloads the file if it isn't here yet.

    Raises:
      UserError: there is no such file, it can't be downloaded, or huggingface_hub is needed but not installed.
    """
    name(address)
    if str(address).startswith(HUB):
        return _from_hub(str(address))
    if str(address).startswith(WEB):
        return _from_web(str(address))
    path = Path(address).expanduser()
    if not path.is_file():  # a pipe or a device may give bytes without end, or block for ever
        found = 'a folder; name the file in it' if path.is_dir() else 'a pipe, device or other thing that is no file'
        raise UserError(f'{path}: {found if path.exists() else "no such file"}')
    return path


def sha256(address: str | Path) -> str:
    """Returns the SHA-256 digest of the file at an address, in hexadecimal digits."""
    with locate(address).open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _in_hub(address: str) -> tuple[str, str]:
    """Splits an address on the hub into (repository, file)."""
    org, repository, file = (*address.removeprefix(HUB).split('/', 2), '', '')[:3]
    if not org or not repository:
        raise UserError(f'{address}: must be {HUB}org/name or {HUB}org/name/file')
    return f'{org}/{repository}', file or HUB_FILE


def _from_hub(address: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise UserError(f'{address}: needs huggingface_hub: `pip install huggingface_hub`') from error
    try:
        return Path(hf_hub_download(*_in_hub(address)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise UserError(f'{address}: not found, nor in the cache: {str(error).strip().splitlines()[0]}') from error


def _from_web(address: str) -> Path:
    """Returns the path of the file at a web address.

    A download that breaks off never gets the name of a cached file.
    """
    folder = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'vidcls' / 'weights'
    path = folder / f'{hashlib.sha256(address.encode()).hexdigest()[:16]}-{name(address)[-100:]}'
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    logging.info('fetching %s', address)
    with tempfile.TemporaryDirectory(prefix='.partial-', dir=folder) as partial:
        file = Path(partial) / 'file'
        try:
            _download(address, file)
        except urllib.error.HTTPError as error:
            raise UserError(f'{address}: the server answers {error.code} {error.reason}') from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
            reason = getattr(error, 'reason', None) or error
            raise UserError(
                f'{address}: could not be fetched ({reason}); a file from elsewhere is taken by its path'
            ) from error
        file.replace(path)
    return path


def _download(address: str, file: Path) -> None:
    request = urllib.request.Request(address, headers={'User-Agent': 'vidcls'})
    opener = urllib.request.build_opener(_StaysSafe)
    with opener.open(request, timeout=PATIENCE) as response, file.open('wb') as out:
        while block := response.read(1 << 20):
            out.write(block)
            if out.tell() > MOST_BYTES:
                raise ValueError(f'it has more than {MOST_BYTES:,} bytes')
        expected = response.headers.get('Content-Length')
        if expected is not None and out.tell() != int(expected):
            raise ValueError(f'it broke off after {out.tell()} of {expected} bytes')


class _StaysSafe(urllib.request.HTTPRedirectHandler):
    """Follows redirections only if they lead to https:// addresses."""

    def redirect_request(self, request, response, code, message, headers, address):
        if not address.startswith(WEB):
            raise ValueError(f'it leads on to {address}, which does not begin with {WEB}')
        return super().redirect_request(request, response, code, message, headers, address)
