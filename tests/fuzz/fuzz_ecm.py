"""Coverage-guided fuzzing of ECMs as a card reads them.

Run: PYTHONPATH=. python tests/fuzz/fuzz_ecm.py tests/fuzz/corpus/ecm -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["emm"]):
    from emm.ecm import ecm_size, open_by_rights, open_ecm, parse_ecm
    from emm.errors import AuthenticationError, DecodeError, NotEntitledError
    from emm.message import SECTION_MAX
    from emm.payload import ProductKeys, RightsBlock
    from emm.secret import Secret

KEY = Secret(range(16))


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name libFuzzer documents
    """The bytes as an ECM, for a card that holds its products under another key."""
    try:
        ecm = parse_ecm(data)
    except DecodeError:
        return
    assert len(data) == ecm_size(len(ecm.keys), ecm.word_count, ecm.word_size) <= SECTION_MAX
    for product_id in ecm.product_ids:
        try:
            open_ecm(ecm, product_id, KEY)
        except AuthenticationError:
            continue
        raise AssertionError("opened without its key")
    products = tuple(ProductKeys(product_id, (KEY, KEY)) for product_id in ecm.product_ids)
    try:
        open_by_rights(ecm, [RightsBlock(0, 0xFFFF_FFFF, ecm.header.epoch, products)])
    except (AuthenticationError, NotEntitledError):
        return
    raise AssertionError("opened without its key")


if __name__ == "__main__":
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()
