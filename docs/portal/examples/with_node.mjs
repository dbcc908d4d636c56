// Order a channel with Node.js and the npm package mqtt.
//
//   OPERATOR=kaisa CARD=100000000008 BROKER=broker.example PORT=8883 CA=ca.pem CERT=kaisa.pem KEY=kaisa.key \
//       node with_node.mjs
//
// A production portal writes each command to its own database before it sends it, and sends it again after a restart.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Installed beside this file with `npm install mqtt`, or wherever NODE_PATH says.
const mqtt = createRequire(import.meta.url)("mqtt");

const { OPERATOR, CARD, BROKER = "localhost", PORT = "8883", CA, CERT, KEY } = process.env;
const replies = `cad/v1/${OPERATOR}/rep/example-node`;
const REPEAT_AFTER_MS = 10_000;

const client = await mqtt.connectAsync({
  protocol: CA ? "mqtts" : "mqtt",
  host: BROKER,
  port: Number(PORT),
  protocolVersion: 5,
  clientId: `${OPERATOR}-example-node`,
  ...(CA && { ca: readFileSync(CA), cert: readFileSync(CERT), key: readFileSync(KEY) }),
});

const waiting = new Map();
client.on("message", (topic, payload) => {
  if (topic !== replies) return;
  const reply = JSON.parse(payload);
  waiting.get(reply.id)?.(reply);
});
await client.subscribeAsync(replies, { qos: 1 });

// Sends a command until its reply has come, and gives the reply.
function order(id, resource, verb, body) {
  const publish = () =>
    client.publishAsync(`cad/v1/${OPERATOR}/cmd/${resource}/${verb}`, JSON.stringify(body), {
      qos: 1,
      properties: { responseTopic: replies, userProperties: { id } },
    });
  return new Promise((resolve, reject) => {
    const again = setInterval(() => publish().catch(reject), REPEAT_AFTER_MS);
    waiting.set(id, (reply) => {
      clearInterval(again);
      waiting.delete(id);
      resolve(reply);
    });
    publish().catch(reject);
  });
}

await order("offer-node-1", "offer", "put", {
  offer: "sport",
  rev: 1,
  kind: "channel",
  names: { en: "Sport" },
  products: ["sport"],
});
await order("assign-node-1", "card", "assign", { card: CARD, rev: 1, subscriber: "customer-4711" });
const reply = await order("order-node-1", "subscription", "put", {
  subscription: "s-node",
  rev: 1,
  card: CARD,
  offer: "sport",
});
console.log(`${reply.id}: ${reply.status}, ${reply.code}`);
await client.endAsync();
process.exitCode = reply.code === "ok" ? 0 : 1;
