"""Coverage-guided fuzzing of the portal's messages, from the broker's bytes to what the ledger takes.

Run: PYTHONPATH=. python tests/fuzz/fuzz_portal.py tests/fuzz/corpus/portal -max_total_time=60
The first line of the input is the topic, the second the user property `id` (empty: none), the rest the payload.
"""

import sys

import atheris

with atheris.instrument_imports(include=["protocol.portal", "cad.orders.intake"]):
    from cad.ledger.model import Order, Refusal, Unreadable
    from cad.orders.broker import Received
    from cad.orders.intake import read
    from protocol.portal.commands import parsing

OPERATORS = {"karjaa"}


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name libFuzzer documents
    """A message from the broker: it becomes an order, an answer, or a word on `rej`, and an order reads as itself."""
    topic, _, rest = data.partition(b"\n")
    command_id, _, payload = rest.partition(b"\n")
    properties = (("id", command_id.decode("utf-8", "replace")),) if command_id else ()
    received = Received(topic.decode("utf-8", "replace"), payload, 1, 1, user_properties=properties)
    told = read(received, OPERATORS)
    if isinstance(told, Order):
        command = told.command
        again = parsing.parse(command.resource, command.verb, told.body, command.id)
        assert again.body() == told.body
        assert parsing.digest(again, again.body()) == told.digest
    else:
        assert told is None or isinstance(told, Refusal | Unreadable)


if __name__ == "__main__":
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()
