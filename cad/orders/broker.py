"""One connection to the MQTT broker, acknowledged by hand (D11): the only place that reaches into aiomqtt and paho.

aiomqtt 2.x has no public way to acknowledge after the work is done, to see whether the broker kept the session, or to
notice a denied publish. All that is private is used here and nowhere else; `tests/integration/mqtt/test_broker.py`
fails when it stops working.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from cad.orders.broker_faults import BrokerDownError, PublishDeniedError, explain
from cad.orders.broker_socket import BufferedSocket, LastWords, read_files
from config.settings import MqttSettings

RECEIVE_MAXIMUM_MIN: Final = 200
INBOX_PAUSE: Final = 4
"""Reading stops when so many times the receive maximum wait: the broker does not keep to it."""
SEND_WINDOW_MAX: Final = 500
CONNECT_TIMEOUT_S: Final = 15.0
CLOSE_TIMEOUT_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker, not acknowledged yet; with MQTT 3.1.1 senders the properties are not there."""

    topic: str
    payload: bytes
    qos: int
    mid: int
    response_topic: str | None = None
    correlation: bytes | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


class Packable(Protocol):
    """Properties of a publication: paho's own, or `cad.orders.mqtt_properties.PublishProperties`."""

    def pack(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Outgoing:
    topic: str
    payload: bytes
    properties: Packable | None
    retain: bool
    done: asyncio.Future[None]


class BrokerConnection:
    """A connection from `open` until it ends; then it is of no further use, and late acknowledgements fall away.

    Messages wait in memory until they are taken. When too many wait, nothing more is read from the broker.
    """

    def __init__(self, settings: MqttSettings, will_topic: str | None = None, will: bytes = b"") -> None:
        self.session_present = False
        self.send_window = 20
        self._settings = settings
        self._receive_maximum = min(0xFFFF, max(RECEIVE_MAXIMUM_MIN, 2 * settings.batch_max))
        self._will = None if will_topic is None else aiomqtt.Will(will_topic, will, qos=1, retain=True)
        self._inbox: deque[Received] = deque()
        self._first_at = 0.0
        self._stirred = asyncio.Event()
        self._unacked = 0
        self._publishing: dict[int, asyncio.Future[None]] = {}
        self._waiting: deque[_Outgoing] = deque()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[BrokerDownError] = self._loop.create_future()
        self._paused = False
        self._interrupted = False
        self._log = LastWords()
        self._client: aiomqtt.Client | None = None

    async def open(self) -> Self:
        """Connect and resume the session. Raises BrokerDownError, or TlsFilesError for our own files."""
        context, password = await asyncio.to_thread(read_files, self._settings)
        client = self._client = self._make_client(context, password)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.__aenter__()
        except (aiomqtt.MqttError, TimeoutError) as error:
            self._forget_socket(client)
            raise explain(error, self._log.text) from None
        except asyncio.CancelledError:
            self._forget_socket(client)
            raise
        self._read_ourselves(client)
        return self

    @property
    def unacked(self) -> int:
        """How many messages were received and not acknowledged."""
        return self._unacked

    @property
    def ended(self) -> BrokerDownError | None:
        """Why the connection ended; None while it lasts."""
        return self._ended.result() if self._ended.done() else None

    async def wait_ended(self) -> BrokerDownError:
        """Wait until the connection ends, and say why."""
        return await asyncio.shield(self._ended)

    async def subscribe(self, topic_filter: str, *, retained: bool = False) -> None:
        """Subscribe with QoS 1; `retained`: also to what the broker keeps. Raises BrokerDownError, also when denied."""
        assert self._client is not None
        kept = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if retained else SubscribeOptions.RETAIN_DO_NOT_SEND
        options = SubscribeOptions(qos=1, retainHandling=kept)
        try:
            answers = await self._client.subscribe(topic_filter, options=options)
        except aiomqtt.MqttError as error:
            raise explain(error, self._log.text) from None
        if any(isinstance(answer, ReasonCode) and answer.is_failure for answer in answers):
            raise BrokerDownError(f"the broker denies the subscription to {topic_filter}", "correct its access list")

    async def take(self, limit: int, linger_s: float) -> list[Received]:
        """Wait for a message, then a moment for company, and return at most `limit` of what has come.

        The moment counts from the arrival of the first: what came while its taker was busy has waited already.
        Returns none after `interrupt`. Raises BrokerDownError when the connection has ended: what was not acknowledged
        comes again.
        """
        while not self._inbox:
            self._stirred.clear()
            self._check()
            await self._stirred.wait()
            if self._interrupted:
                self._interrupted = False
                return []
        if len(self._inbox) < limit and (pause_s := self._first_at + linger_s - self._loop.time()) > 0:
            await asyncio.sleep(pause_s)
        self._check()
        taken = [self._inbox.popleft() for _ in range(min(limit, len(self._inbox)))]
        if self._paused and len(self._inbox) < self._receive_maximum:
            self._resume()
        return taken

    def interrupt(self) -> None:
        """Wake up whoever waits in `take`."""
        self._interrupted = True
        self._stirred.set()

    def ack(self, messages: Sequence[Received]) -> None:
        """Acknowledge messages of this connection. After its end nothing is done: they come again on the next one."""
        if self._ended.done() or self._client is None:
            return
        for message in messages:
            if message.qos:
                self._client._client.ack(message.mid, message.qos)
                self._unacked -= 1

    def publish(
        self, topic: str, payload: bytes, properties: Packable | None = None, *, retain: bool = False
    ) -> asyncio.Future[None]:
        """Send a message with QoS 1, as soon as the broker's receive maximum allows it.

        The future ends with the broker's PUBACK, or with PublishDeniedError or BrokerDownError.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        if self._ended.done() or self._client is None:
            done.set_exception(self._ended.result() if self._ended.done() else _gone("it is not open"))
            return done
        message = _Outgoing(topic, payload, properties, retain, done)
        if self._waiting or len(self._publishing) >= self.send_window:
            self._waiting.append(message)
        else:
            self._send(message)
        return done

    async def close(self) -> None:
        """Leave politely; the broker keeps the session."""
        client = self._client
        if client is None or self._ended.done():
            return
        self._end("we left", "nothing")
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await client.__aexit__(None, None, None)
        self._forget_socket(client)

    # --- what is private to aiomqtt and paho

    def _make_client(self, context: ssl.SSLContext | None, password: str | None) -> aiomqtt.Client:
        settings = self._settings
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        connect.SessionExpiryInterval = settings.session_expiry_s
        connect.ReceiveMaximum = self._receive_maximum
        client = aiomqtt.Client(
            settings.host,
            settings.port,
            identifier=settings.client_id,
            username=settings.username,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=False,
            keepalive=settings.keepalive_s,
            properties=connect,
            tls_context=context,
            will=self._will,
            max_inflight_messages=0,  # the window is kept here: paho's costs a walk over it for each message
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        inner = client._client
        inner.enable_logger(self._log)  # type: ignore[arg-type] # paho only calls `log`
        inner.manual_ack_set(True)
        self._wrap_connection(client, inner)
        inner.on_message = self._on_message
        inner.on_publish = self._on_publish
        inner.on_socket_register_write = self._on_more_to_write
        return client

    def _wrap_connection(self, client: aiomqtt.Client, inner: paho.Client) -> None:
        on_connect, on_disconnect = client._on_connect, client._on_disconnect

        def connected(
            c: Any, u: Any, flags: paho.ConnectFlags, reason: ReasonCode, properties: Properties | None
        ) -> None:
            self.session_present = flags.session_present
            window = getattr(properties, "ReceiveMaximum", 0xFFFF)
            self.send_window = min(window, SEND_WINDOW_MAX)
            on_connect(c, u, flags, reason, properties)

        def disconnected(
            c: Any, u: Any, flags: paho.DisconnectFlags, reason: ReasonCode, properties: Properties | None
        ) -> None:
            if not client._connected.done():
                # Connecting runs in another thread: the loop would sleep over it until the time-out.
                self._loop.call_soon_threadsafe(closed_at_once)
                return
            on_disconnect(c, u, flags, reason, properties)
            client._disconnected.exception()  # looked at, so that asyncio does not complain of it
            text = getattr(properties, "ReasonString", None) or str(reason)
            self._end(
                f"the connection to the broker ended: {self._log.text or text}",
                "it is tried again by itself; look at the broker if it goes on",
            )

        def closed_at_once() -> None:
            if not client._connected.done():
                client._connected.set_exception(aiomqtt.MqttError("the broker closed the connection at once"))

        inner.on_connect = connected
        inner.on_disconnect = disconnected

    def _send(self, message: "_Outgoing") -> None:
        assert self._client is not None
        properties: Any = message.properties  # paho only packs them
        info = self._client._client.publish(message.topic, message.payload, 1, message.retain, properties)
        if info.rc == paho.MQTT_ERR_SUCCESS:
            self._publishing[info.mid] = message.done
        elif not message.done.done():
            message.done.set_exception(_gone(paho.error_string(info.rc)))

    def _read_ourselves(self, client: aiomqtt.Client) -> None:
        """Take reading into our own hands, so that it can pause."""
        held = client._client.socket()
        if held is None or self._ended.done():
            return
        self._loop.add_reader(held.fileno(), self._read)
        self._read()

    def _read(self) -> None:
        assert self._client is not None
        inner = self._client._client
        try:
            while not (self._paused or self._ended.done()):
                inner.loop_read()
                held = inner.socket()
                # What TLS has decrypted already does not make the socket readable again.
                if not (isinstance(held, ssl.SSLSocket) and held.pending() > 0):
                    return
        except Exception as error:
            self._fail(error)

    def _on_more_to_write(self, c: Any, u: Any, held: Any) -> None:
        """Have the socket watched, in the loop's thread (connecting runs in another), unless it is gone by then."""
        self._loop.call_soon_threadsafe(self._watch_to_write, held)

    def _watch_to_write(self, held: socket.socket) -> None:
        if self._client is not None and held is self._client._client.socket() and held.fileno() >= 0:
            self._loop.add_writer(held.fileno(), self._write)

    def _write(self) -> None:
        assert self._client is not None
        inner = self._client._client
        held = inner.socket()
        try:
            if not isinstance(held, BufferedSocket):
                inner.loop_write()
                return
            held.gather()
            inner.loop_write()
            if not held.flush() or inner.want_write():
                self._watch_to_write(held)
            elif held.fileno() >= 0:
                self._loop.remove_writer(held)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        assert self._client is not None
        self._end(f"the connection to the broker failed: {error}", "it is tried again by itself")
        self._forget_socket(self._client)

    def _pause(self) -> None:
        if self._client is not None and (held := self._client._client.socket()) is not None:
            self._loop.remove_reader(held.fileno())
            self._paused = True

    def _resume(self) -> None:
        self._paused = False
        if self._client is not None and not self._ended.done():
            self._read_ourselves(self._client)

    def _on_message(self, c: Any, u: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        properties = getattr(message, "properties", None)
        self._take_in(
            Received(
                topic=topic,
                payload=bytes(message.payload),
                qos=message.qos,
                mid=message.mid,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                user_properties=tuple(getattr(properties, "UserProperty", ())),
            )
        )

    def _take_in(self, received: Received) -> None:
        self._unacked += 1 if received.qos else 0
        if not self._inbox:
            self._first_at = self._loop.time()
        self._inbox.append(received)
        self._stirred.set()
        if len(self._inbox) > INBOX_PAUSE * self._receive_maximum:
            self._pause()

    def _on_publish(self, c: Any, u: Any, mid: int, reason: ReasonCode, properties: Properties) -> None:
        done = self._publishing.pop(mid, None)
        while self._waiting and len(self._publishing) < self.send_window and not self._ended.done():
            self._send(self._waiting.popleft())
        if done is None or done.done():
            return
        if reason.is_failure:
            done.set_exception(PublishDeniedError(f"the broker refuses the message: {reason}"))
        else:
            done.set_result(None)

    def _end(self, reason: str, advice: str) -> None:
        if self._ended.done():
            return
        error = BrokerDownError(reason, advice)
        self._ended.set_result(error)
        for done in (*self._publishing.values(), *(message.done for message in self._waiting)):
            if not done.done():
                done.set_exception(error)
        self._publishing.clear()
        self._waiting.clear()
        self._inbox.clear()
        self._unacked = 0
        self._stirred.set()

    def _check(self) -> None:
        if self._ended.done():
            raise self._ended.result()

    @staticmethod
    def _forget_socket(client: aiomqtt.Client) -> None:
        """Close what aiomqtt leaves open after a failure, and look at what it leaves unlooked at."""
        client._client._sock_close()
        for future in (client._connected, client._disconnected):
            if future.done() and not future.cancelled():
                future.exception()


def _gone(what: str) -> BrokerDownError:
    return BrokerDownError(f"there is no connection to the broker: {what}", "it is tried again by itself")
