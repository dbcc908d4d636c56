"""TLS for the connection to the broker, and why a certificate or key file cannot be used."""

import ssl

from cad.errors import CadError
from config.settings import MqttTlsSettings


class TlsFilesError(CadError):
    """A certificate or key file cannot be used."""


def client_context(settings: MqttTlsSettings) -> ssl.SSLContext:
    """Return a context that checks the broker's certificate and name, and shows our own certificate if there is one.

    Raises TlsFilesError, which names the file.
    """
    try:
        context = ssl.create_default_context(cafile=str(settings.ca_file))
    except OSError as error:
        raise TlsFilesError(f"mqtt.tls.ca_file {settings.ca_file} cannot be used: {files_reason(error)}") from None
    if settings.cert_file is not None:
        try:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
        except OSError as error:
            raise TlsFilesError(
                f"mqtt.tls.cert_file {settings.cert_file} with key_file {settings.key_file} cannot be used:"
                f" {files_reason(error)}"
            ) from None
    return context


def files_reason(error: OSError) -> str:
    """Why OpenSSL cannot use a file, in words."""
    match error:
        case ssl.SSLError(reason="KEY_VALUES_MISMATCH"):
            return "certificate and key do not belong together"
        case ssl.SSLError():
            return "it is not PEM of the right kind, or the key has a password"
        case _:
            return error.strerror or str(error)
