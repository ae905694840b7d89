"""The characters that every Unicode version since 14 classes alike, and how to cut the others out of a text."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from glassformer.tokenizers.patterns import last_cut, next_cut

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Which characters are letters and numbers depends on the Unicode version, and every library brings its own: here regex 18,
# gigatoken 17, `tokenizers` 16. These are the ranges (hexadecimal, both ends included) that Unicode 14 had assigned, outside
# of the basic plane only the longer ones; what is not among them is left to the definition.
SETTLED = """
0-377 37a-37f 384-38a 38c 38e-3a1 3a3-52f 531-556 559-58a 58d-58f 591-5c7 5d0-5ea 5ef-5f4 600-70d 70f-74a 74d-7b1
7c0-7fa 7fd-82d 830-83e 840-85b 85e 860-86a 870-88e 890-891 898-983 985-98c 98f-990 993-9a8 9aa-9b0 9b2 9b6-9b9
9bc-9c4 9c7-9c8 9cb-9ce 9d7 9dc-9dd 9df-9e3 9e6-9fe a01-a03 a05-a0a a0f-a10 a13-a28 a2a-a30 a32-a33 a35-a36 a38-a39
a3c a3e-a42 a47-a48 a4b-a4d a51 a59-a5c a5e a66-a76 a81-a83 a85-a8d a8f-a91 a93-aa8 aaa-ab0 ab2-ab3 ab5-ab9 abc-ac5
ac7-ac9 acb-acd ad0 ae0-ae3 ae6-af1 af9-aff b01-b03 b05-b0c b0f-b10 b13-b28 b2a-b30 b32-b33 b35-b39 b3c-b44 b47-b48
b4b-b4d b55-b57 b5c-b5d b5f-b63 b66-b77 b82-b83 b85-b8a b8e-b90 b92-b95 b99-b9a b9c b9e-b9f ba3-ba4 ba8-baa bae-bb9
bbe-bc2 bc6-bc8 bca-bcd bd0 bd7 be6-bfa c00-c0c c0e-c10 c12-c28 c2a-c39 c3c-c44 c46-c48 c4a-c4d c55-c56 c58-c5a c5d
c60-c63 c66-c6f c77-c8c c8e-c90 c92-ca8 caa-cb3 cb5-cb9 cbc-cc4 cc6-cc8 cca-ccd cd5-cd6 cdd-cde ce0-ce3 ce6-cef
cf1-cf2 d00-d0c d0e-d10 d12-d44 d46-d48 d4a-d4f d54-d63 d66-d7f d81-d83 d85-d96 d9a-db1 db3-dbb dbd dc0-dc6 dca dcf-
dd4 dd6 dd8-ddf de6-def df2-df4 e01-e3a e3f-e5b e81-e82 e84 e86-e8a e8c-ea3 ea5 ea7-ebd ec0-ec4 ec6 ec8-ecd ed0-ed9
edc-edf f00-f47 f49-f6c f71-f97 f99-fbc fbe-fcc fce-fda 1000-10c5 10c7 10cd 10d0-1248 124a-124d 1250-1256 1258
125a-125d 1260-1288 128a-128d 1290-12b0 12b2-12b5 12b8-12be 12c0 12c2-12c5 12c8-12d6 12d8-1310 1312-1315 1318-135a
135d-137c 1380-1399 13a0-13f5 13f8-13fd 1400-169c 16a0-16f8 1700-1715 171f-1736 1740-1753 1760-176c 176e-1770
1772-1773 1780-17dd 17e0-17e9 17f0-17f9 1800-1819 1820-1878 1880-18aa 18b0-18f5 1900-191e 1920-192b 1930-193b 1940
1944-196d 1970-1974 1980-19ab 19b0-19c9 19d0-19da 19de-1a1b 1a1e-1a5e 1a60-1a7c 1a7f-1a89 1a90-1a99 1aa0-1aad
1ab0-1ace 1b00-1b4c 1b50-1b7e 1b80-1bf3 1bfc-1c37 1c3b-1c49 1c4d-1c88 1c90-1cba 1cbd-1cc7 1cd0-1cfa 1d00-1f15
1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fc4 1fc6-1fd3 1fd6-1fdb 1fdd-1fef
1ff2-1ff4 1ff6-1ffe 2000-2064 2066-2071 2074-208e 2090-209c 20a0-20c0 20d0-20f0 2100-218b 2190-2426 2440-244a
2460-2b73 2b76-2b95 2b97-2cf3 2cf9-2d25 2d27 2d2d 2d30-2d67 2d6f-2d70 2d7f-2d96 2da0-2da6 2da8-2dae 2db0-2db6
2db8-2dbe 2dc0-2dc6 2dc8-2dce 2dd0-2dd6 2dd8-2dde 2de0-2e5d 2e80-2e99 2e9b-2ef3 2f00-2fd5 2ff0-2ffb 3000-303f
3041-3096 3099-30ff 3105-312f 3131-318e 3190-31e3 31f0-321e 3220-a48c a490-a4c6 a4d0-a62b a640-a6f7 a700-a7ca
a7d0-a7d1 a7d3 a7d5-a7d9 a7f2-a82c a830-a839 a840-a877 a880-a8c5 a8ce-a8d9 a8e0-a953 a95f-a97c a980-a9cd a9cf-a9d9
a9de-a9fe aa00-aa36 aa40-aa4d aa50-aa59 aa5c-aac2 aadb-aaf6 ab01-ab06 ab09-ab0e ab11-ab16 ab20-ab26 ab28-ab2e
ab30-ab6b ab70-abed abf0-abf9 ac00-d7a3 d7b0-d7c6 d7cb-d7fb e000-fa6d fa70-fad9 fb00-fb06 fb13-fb17 fb1d-fb36
fb38-fb3c fb3e fb40-fb41 fb43-fb44 fb46-fbc2 fbd3-fd8f fd92-fdc7 fdcf fdf0-fe19 fe20-fe52 fe54-fe66 fe68-fe6b
fe70-fe74 fe76-fefc feff ff01-ffbe ffc2-ffc7 ffca-ffcf ffd2-ffd7 ffda-ffdc ffe0-ffe6 ffe8-ffee fff9-fffd 10080-100fa
10107-10133 10137-1018e 101d0-101fd 102a0-102d0 10300-10323 10350-1037a 1039f-103c3 10400-1049d 104b0-104d3
104d8-104fb 10500-10527 10530-10563 10600-10736 10787-107b0 1080a-10835 10857-1089e 108fb-1091b 10980-109b7
109d2-10a03 10a60-10a9f 10ac0-10ae6 10b00-10b35 10c00-10c48 10c80-10cb2 10cc0-10cf2 10cfa-10d27 10e80-10ea9
10f00-10f27 10f30-10f59 11000-1104d 11052-11075 1107f-110c2 11100-11134 11150-11176 11180-111df 11213-1123e
112b0-112ea 11400-1145b 11480-114c7 11580-115b5 115b8-115dd 11600-11644 11680-116b9 11800-1183b 118a0-118f2
119aa-119d7 11a00-11a47 11a50-11aa2 11ab0-11af8 11c0a-11c36 11c70-11c8f 11d0b-11d36 11d6a-11d8e 11fc0-11ff1
11fff-12399 12400-1246e 12480-12543 12f90-12ff2 13000-1342e 14400-14646 16800-16a38 16a6e-16abe 16b00-16b45
16e40-16e9a 16f00-16f4a 16f4f-16f87 17000-187f7 18800-18cd5 1b000-1b122 1b170-1b2fb 1bc00-1bc6a 1cf00-1cf2d
1cf50-1cfc3 1d000-1d0f5 1d100-1d126 1d129-1d1ea 1d200-1d245 1d300-1d356 1d400-1d454 1d456-1d49c 1d4c5-1d505
1d552-1d6a5 1d6a8-1d7cb 1d7ce-1da8b 1e100-1e12c 1e2c0-1e2f9 1e800-1e8c4 1e900-1e94b 1ec71-1ecb4 1ed01-1ed3d
1f000-1f02b 1f030-1f093 1f0d1-1f0f5 1f100-1f1ad 1f210-1f23b 1f300-1f6d7 1f700-1f773 1f780-1f7d8 1f810-1f847
1f860-1f887 1f900-1fa53 1fb00-1fb92 1fb94-1fbca 20000-2a6df 2a700-2b738 2b740-2b81d 2b820-2cea1 2ceb0-2ebe0
2f800-2fa1d 30000-3134a e0020-e007f e0100-e01ef f0000-ffffd 100000-10fffd
"""


FIRST_GAP = 0x378
WINDOW = 1 << 20  # characters looked at together; four bytes each


@functools.cache
def settled() -> npt.NDArray[np.bool_]:
    """For each code point, whether it is in one of the ranges."""
    import numpy as np

    table = np.zeros(0x110000, dtype=np.bool_)
    for part in SETTLED.split():
        first, _, last = part.partition("-")
        table[int(first, 16) : int(last or first, 16) + 1] = True
    return table


def unsettled_places(text: str) -> list[int]:
    """Where the text has characters that libraries may class differently."""
    if text.isascii():
        return []
    import numpy as np

    places: list[int] = []
    for start in range(0, len(text), WINDOW):
        codes = np.frombuffer(text[start : start + WINDOW].encode("utf-32-le"), dtype=np.uint32)
        later = np.flatnonzero(
            codes >= FIRST_GAP
        )  # a comparison is much cheaper than looking up every letter of English
        places += (later[~settled()[codes[later]]] + start).tolist()
    return places


def stretches(text: str, places: Iterable[int]) -> Iterator[tuple[str, bool]]:
    """The text cut, where cutting changes no piece, into stretches without (True) and with unsettled characters (False)."""
    start = 0
    for place in places:
        if place < start:  # in the stretch that was given last
            continue
        begin, end = max(start, last_cut(text, place)), next_cut(text, place + 1)
        if begin > start:
            yield text[start:begin], True
        yield text[begin:end], False
        start = end
    if start < len(text):
        yield text[start:], True
