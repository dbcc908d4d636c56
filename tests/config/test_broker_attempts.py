"""config/mosquitto/attempts.py: of a broker's debug log only attempts and what the broker says at its usual level."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path("config/mosquitto/attempts.py").resolve()

# As mosquitto 2.0.11 writes them.
TRAFFIC = """\
New connection from 127.0.0.1:34130 on port 8883.
New client connected from 127.0.0.1:34130 as web (p5, c1, k60, u'kaspnet').
No will message specified.
Sending CONNACK to web (0, 0)
Received SUBSCRIBE from web
\tcad/v1/kaspnet/rep/# (QoS 1)
\tcad/v1/_node/+/state (QoS 1)
\t$share/two/cad/v1/kaspnet/evt/# (QoS 0)
Sending SUBACK to web
Received PUBLISH from web (d0, q1, r0, m1, 'cad/v1/kaspnet/cmd/card/refresh', ... (19 bytes))
Sending PUBACK to web (m1, rc0)
Sending PUBLISH to _cad (d0, q1, r0, m1, 'cad/v1/kaspnet/cmd/card/refresh', ... (19 bytes))
Received PUBACK from _cad (Mid: 1, RC:0)
Received PINGREQ from web
Sending PINGRESP to web
Received UNSUBSCRIBE from web
\tcad/v1/karjaa/rep/#
Sending UNSUBACK to web
Received DISCONNECT from web
Client web disconnected.
"""
CONNECT = "New client connected from 127.0.0.1:1 as {} (p5, c1, k60, u'{}')."
DENIED = "Denied PUBLISH from {} (d0, q1, r0, m1, '{}', ... (85 bytes))"


def attempts() -> Any:
    spec = importlib.util.spec_from_file_location("attempts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logged(*lines: str) -> list[str]:
    """What is logged of these lines, without what the broker says anyway."""
    found = attempts().Attempts().read(f"1796078064: {line}\n" for line in lines)
    return [line.removeprefix("<4>attempt ") for line in found if line.startswith("<4>")]


def test_nothing_is_logged_of_what_is_ones_own_but_the_brokers_notices() -> None:
    found = attempts().Attempts().read(f"1796078064: {line}\n" for line in TRAFFIC.splitlines())
    assert [line.split()[0] for line in found] == ["New", "New", "Client"]


@pytest.mark.parametrize(
    "topic", ["#", "cad/v1/+/cmd/#", "cad/v1/karjaa/rep/web", "$share/x/cad/v1/karjaa/evt/#", "$SYS/#"]
)
def test_a_subscription_to_what_is_anothers_names_operator_client_and_topic(topic: str) -> None:
    found = logged(CONNECT.format("web", "kaspnet"), "Received SUBSCRIBE from web", f"\t{topic} (QoS 1)")
    assert found == [f'operator="kaspnet" client="web" subscribe "{topic}"']


def test_a_refused_publication_names_operator_client_and_topic() -> None:
    topic = "cad/v1/karjaa/cmd/card/suspend"
    found = logged(CONNECT.format("web", "kaspnet"), DENIED.format("web", topic))
    assert found == [f'operator="kaspnet" client="web" publish "{topic}"']


@pytest.mark.parametrize(
    ("topic", "said"), [("cad/v1/karjaa/rej", 1), ("cad/v1/kaspnet/rep/x", 1), ("cad/v1/kaspnet/cmd/x/y", 0)]
)
def test_a_will_outside_of_ones_own_commands(topic: str, said: int) -> None:
    will = "Will message specified (2 bytes) (r0, q1)."
    found = logged(CONNECT.format("web", "kaspnet"), will, f"\t{topic}")
    assert found == [f'operator="kaspnet" client="web" will "{topic}"'][:said]


def test_the_daemon_may_hear_everybody_but_what_it_is_refused_is_told() -> None:
    daemon = CONNECT.format("cad-1", "_cad")
    will = "Will message specified (2 bytes) (r1, q1).", "\tcad/v1/_node/n/state"
    assert logged(daemon, *will, "Received SUBSCRIBE from cad-1", "\tcad/v1/+/cmd/# (QoS 1)") == []
    found = logged(daemon, DENIED.format("cad-1", "cad/v1/karjaa/rep/web"))
    assert found == ['operator="_cad" client="cad-1" publish "cad/v1/karjaa/rep/web"']


def test_who_connects_under_anothers_client_id_is_named() -> None:
    found = logged(CONNECT.format("web", "karjaa"), CONNECT.format("web", "karjaa"), CONNECT.format("web", "kaspnet"))
    assert found == ['operator="kaspnet" client="web" client-id-of "karjaa"']


def test_ids_and_topics_that_look_like_log_lines_deceive_nobody() -> None:
    victim = CONNECT.format("web", "karjaa")
    fake = "web (d0, q1, r0, m1, 'y', ... (1 bytes))"
    (by_id,) = logged(victim, CONNECT.format(fake, "kaspnet"), DENIED.format(fake, "cad/v1/karjaa/rej"))
    assert by_id.startswith('operator="kaspnet" client="web (d0')
    assert by_id.endswith(' publish "cad/v1/karjaa/rej"')
    (by_topic,) = logged(CONNECT.format("k", "kaspnet"), DENIED.format("k", "x (d0, q1, r0, m1, 'cad/v1/karjaa/rej"))
    assert by_topic.startswith('operator="kaspnet" client="k" publish "x (d0')
    (named,) = logged(
        CONNECT.format("a as b (p5, c1, k60, u'karjaa').", "kaspnet"),
        DENIED.format("a as b (p5, c1, k60, u'karjaa').", "t"),
    )
    assert named.startswith('operator="kaspnet" ')


def test_a_client_that_was_not_seen_to_connect_and_a_line_of_another_release_are_told() -> None:
    assert logged(DENIED.format("web", "t")) == ['operator="?" client="web" publish "t"']
    assert logged("Received SUBSCRIBE from web", "\tcad/v1/karjaa/rep/# (QoS 0)") == [
        'operator="?" client="web" subscribe "cad/v1/karjaa/rep/#"'
    ]
    assert logged("Denied PUBLISH from web, in new words") == ['"Denied PUBLISH from web, in new words"']


def test_names_are_kept_for_the_newest_clients_only(monkeypatch: pytest.MonkeyPatch) -> None:
    module = attempts()
    monkeypatch.setattr(module, "NAMES_MAX", 2)
    lines = [CONNECT.format(f"c{number}", "kaspnet") for number in range(3)]
    lines += [DENIED.format(f"c{number}", "t") for number in range(3)]
    found = [line for line in module.Attempts().read(f"1: {line}\n" for line in lines) if line.startswith("<4>")]
    assert [line.split('"')[1] for line in found] == ["?", "kaspnet", "kaspnet"]


def test_as_a_program_it_passes_on_any_bytes_until_the_end() -> None:
    lines = b"1: " + DENIED.format("k", "t").encode() + b"\n\xff\xfe\nno stamp\n\n"
    done = subprocess.run([sys.executable, "-I", SCRIPT], input=lines, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().splitlines() == ['<4>attempt operator="?" client="k" publish "t"', "��", "no stamp", ""]
