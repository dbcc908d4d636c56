"""Topics are read strictly and built only from checked names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.portal import topics
from protocol.portal.errors import TopicError
from protocol.portal.topics import CommandTopic


def test_topics_look_as_agreed() -> None:
    assert topics.command("karjaa", "card", "assign") == "cad/v1/karjaa/cmd/card/assign"
    assert topics.reply("karjaa", "web.1") == "cad/v1/karjaa/rep/web.1"
    assert topics.event("karjaa", "card", "on-air") == "cad/v1/karjaa/evt/card/on-air"
    assert topics.rejects("karjaa") == "cad/v1/karjaa/rej"
    assert topics.node_state("headend-1") == "cad/v1/_node/headend-1/state"


@pytest.mark.parametrize(
    ("topic", "read"),
    [
        ("cad/v1/karjaa/cmd/card/assign", CommandTopic("karjaa", "card", "assign")),
        ("cad/v1/karjaa/cmd/card", CommandTopic("karjaa", "", "")),
        ("cad/v1/karjaa/cmd/card/assign/now", CommandTopic("karjaa", "", "")),
        ("cad/v1/karjaa/cmd/Card/assign", CommandTopic("karjaa", "", "")),
        ("cad/v1/karjaa/cmd//", CommandTopic("karjaa", "", "")),
    ],
)
def test_command_topics_are_read(topic: str, read: CommandTopic) -> None:
    assert topics.parse_command(topic) == read


@pytest.mark.parametrize(
    "topic",
    ["", "cad", "cad/v1/karjaa/rep/web", "cad/v2/karjaa/cmd/card/assign", "x/v1/karjaa/cmd/card/assign",
     "cad/v1/Karjaa/cmd/card/assign", "cad/v1/_node/cmd/card/assign", "cad/v1/a b/cmd/card/assign",
     f"cad/v1/{'x' * 33}/cmd/card/assign"],
)  # fmt: skip
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(TopicError):
        topics.parse_command(topic)


@pytest.mark.parametrize("name", ["", "#", "+", "a/b", "A", "-a", "a\n", "ä", "x" * 33, "_node"])
def test_names_that_cannot_stand_in_a_topic_are_refused(name: str) -> None:
    for build in (topics.rejects, topics.node_state, lambda one: topics.command(one, "card", "assign")):
        with pytest.raises(TopicError):
            build(name)
    with pytest.raises(TopicError):
        topics.reply(name, "web")


@pytest.mark.parametrize(
    "topic",
    ["cad/v1/kaspnet/rep/web", "cad/v1/karjaa/rep/", "cad/v1/karjaa/rep/a/b", "cad/v1/karjaa/rep/+",
     "cad/v1/karjaa/rep/#", "cad/v1/karjaa/cmd/card/assign", "cad/v1/karjaa/repo/web", "",
     "cad/v1/karjaa/rep/we\x00b", "$SYS/broker"],
)  # fmt: skip
def test_a_response_topic_that_is_not_the_senders_own_is_refused(topic: str) -> None:
    with pytest.raises(TopicError):
        topics.check_reply(topic, "karjaa")


def test_the_senders_own_response_topic_is_taken() -> None:
    assert topics.check_reply("cad/v1/karjaa/rep/Web-1_x.y", "karjaa") == "cad/v1/karjaa/rep/Web-1_x.y"


@given(st.text(max_size=80))
def test_any_text_is_a_topic_or_a_topic_error(text: str) -> None:
    for read in (topics.parse_command, lambda one: topics.check_reply(one, "karjaa")):
        try:
            read(text)
        except TopicError:
            continue


@given(st.from_regex(topics.SLUG_PATTERN, fullmatch=True), st.from_regex(topics.CLIENT_PATTERN, fullmatch=True))
def test_what_is_built_is_read_again(operator: str, client: str) -> None:
    built = topics.command(operator.strip(), "card", "assign")
    assert topics.parse_command(built) == CommandTopic(operator.strip(), "card", "assign")
    assert topics.check_reply(topics.reply(operator.strip(), client.strip()), operator.strip())
