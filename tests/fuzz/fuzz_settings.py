"""Coverage-guided fuzzing of the files an administrator gives: settings and key file.

Run: PYTHONPATH=. python tests/fuzz/fuzz_settings.py tests/fuzz/corpus/settings -max_total_time=60
"""

import sys

import atheris

with atheris.instrument_imports(include=["config", "tomllib", "cad.keystore"]):
    from cad import keystore
    from cad.errors import KeyStoreError
    from config import crosscheck
    from config.errors import SettingsError
    from config.load import loads
    from emm.secret import Secret

PASSPHRASE = Secret(b"not the passphrase")
QUICK_SCRYPT_BYTES = 128 * 1024


def read_settings(data: bytes) -> None:
    """Settings, or our own error that names at least one problem and fits on lines."""
    try:
        settings = loads(data)
    except SettingsError as error:
        refused = error
    else:
        assert crosscheck.problems(settings) == []
        crosscheck.remarks(settings)
        return
    assert refused.problems
    assert len(str(refused).splitlines()) >= 2


def read_key_file(data: bytes) -> None:
    """Never a key: nobody sealed one under this passphrase. Slow scrypt parameters are turned away, to stay fast."""
    limit, keystore.SCRYPT_MEMORY_MAX = keystore.SCRYPT_MEMORY_MAX, QUICK_SCRYPT_BYTES
    try:
        keystore.unseal(data, PASSPHRASE)
    except KeyStoreError:
        return
    finally:
        keystore.SCRYPT_MEMORY_MAX = limit
    raise AssertionError("opened without its passphrase")


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name libFuzzer documents
    """The bytes as each of the files."""
    read_settings(data)
    read_key_file(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()
