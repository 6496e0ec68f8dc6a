"""Keep secrets in addresses of repositories out of files, messages and lists of processes."""

import re

from mlscaffold.errors import KitError, masked, short

WEB = re.compile(r"(https?|ftps?)(:|%3a)", re.IGNORECASE)
# A user before a host of the web, since tokens are written so; a user and a password before any host; what
# follows ? or # where it is no part of a folder's name.
SECRETS = (
    re.compile(WEB.pattern + r"/*([^/]*(@|%40)|[^/]*:(?!\d+(/|$))[^@]*@|.*[?#])", re.IGNORECASE),
    re.compile(r"[^/@:]*://[^/@]*:[^/]*@"),
    re.compile(r"^[^/@:\s]+:[^/\s]*@"),
    re.compile(r"^g[hl]:.*(@|%40)", re.IGNORECASE),
    re.compile(r"^(?!file:)[^/\\?#]{2,}:.*([?#]|%3f|%23)", re.IGNORECASE | re.DOTALL),
)
LONGEST = 2_000  # characters
OPTION = re.compile(r"([a-z0-9+.]*:/*)?([^/@]*@)?-", re.IGNORECASE)


def refuse_unsafe_address(address: str, place: str) -> None:
    """Refuse an address with a secret in it, or one that git or ssh could take for an option."""
    if len(address) > LONGEST:  # what follows takes its time
        raise KitError(f"{place}: no address has {len(address):,} characters.", "Write another address.")
    plain = re.sub(r"^(git\+)+", "", address, flags=re.IGNORECASE)
    if any(secret.search(plain) for secret in SECRETS):
        raise KitError(
            f"{place}: {_hidden(plain)} holds a user or a secret, which would come into every project.",
            "Leave it out: git asks a credential helper, GIT_ASKPASS or ssh (git help credentials).",
        )
    if not plain.isprintable():
        raise KitError(f"{place}: {short(address)} has signs that nobody can see.", "Write another address.")
    if OPTION.match(plain):
        wrong = f"{place}: {address!r} has a part that begins with '-', as options of programs do."
        raise KitError(wrong, "Write another address.")


def _hidden(address: str) -> str:
    """Write an address whose secret may hold any sign, spaces and quotes among them."""
    place = re.split(r"[?#]|%3[fF]|%23", address.rpartition("@")[2])[0]
    before, slashes, rest = place.partition("//")
    return masked(f"the address {'***@' if '@' in address else ''}{before}{slashes}{rest}")
