<?php
// Order a channel with PHP and the Composer package php-mqtt/client:  composer require php-mqtt/client
//
//   OPERATOR=kaisa CARD=100000000008 BROKER=broker.example PORT=8883 CA=ca.pem CERT=kaisa.pem KEY=kaisa.key \
//       php with_php.php
//
// The package speaks MQTT 3.1.1, which has no properties: `id` and `reply_to` stand in the payload instead.
// A production portal writes each command to its own database before it sends it, and sends it again after a restart.

declare(strict_types=1);

require __DIR__ . '/vendor/autoload.php';

use PhpMqtt\Client\ConnectionSettings;
use PhpMqtt\Client\MqttClient;

const CLIENT = 'example-php';
const REPEAT_AFTER_S = 10;

$operator = getenv('OPERATOR');
$card = getenv('CARD');
$settings = (new ConnectionSettings())->setKeepAliveInterval(30);
if (getenv('CA') !== false) {
    $settings = $settings
        ->setUseTls(true)
        ->setTlsCertificateAuthorityFile(getenv('CA'))
        ->setTlsClientCertificateFile(getenv('CERT'))
        ->setTlsClientCertificateKeyFile(getenv('KEY'));
}

$mqtt = new MqttClient(
    getenv('BROKER') ?: 'localhost',
    (int) (getenv('PORT') ?: 8883),
    "$operator-" . CLIENT,
    MqttClient::MQTT_3_1_1
);
$mqtt->connect($settings, true);

$replies = [];
$mqtt->subscribe(
    "cad/v1/$operator/rep/" . CLIENT,
    function (string $topic, string $message) use (&$replies, $mqtt): void {
        $reply = json_decode($message, true, 16, JSON_THROW_ON_ERROR);
        $replies[$reply['id']] = $reply;
        $mqtt->interrupt();
    },
    MqttClient::QOS_AT_LEAST_ONCE
);

// The loop ends when a reply has come (above), or when it has waited long enough.
$mqtt->registerLoopEventHandler(function (MqttClient $mqtt, float $elapsed): void {
    if ($elapsed >= REPEAT_AFTER_S) {
        $mqtt->interrupt();
    }
});

// Sends a command until its reply has come, and returns the reply.
$order = function (string $id, string $resource, string $verb, array $body) use ($mqtt, $operator, &$replies): array {
    $payload = json_encode(['id' => $id, 'reply_to' => CLIENT] + $body, JSON_THROW_ON_ERROR);
    while (true) {
        $mqtt->publish("cad/v1/$operator/cmd/$resource/$verb", $payload, MqttClient::QOS_AT_LEAST_ONCE);
        $mqtt->loop();
        if (isset($replies[$id])) {
            return $replies[$id];
        }
        fwrite(STDERR, "$id: no reply yet, sending it again\n");
    }
};

$order('offer-php-1', 'offer', 'put', [
    'offer' => 'sport', 'rev' => 1, 'kind' => 'channel', 'names' => ['en' => 'Sport'], 'products' => ['sport'],
]);
$order('assign-php-1', 'card', 'assign', ['card' => $card, 'rev' => 1, 'subscriber' => 'customer-4711']);
$reply = $order('order-php-1', 'subscription', 'put', [
    'subscription' => 's-php', 'rev' => 1, 'card' => $card, 'offer' => 'sport',
]);
printf("%s: %s, %s\n", $reply['id'], $reply['status'], $reply['code']);
$mqtt->disconnect();
exit($reply['code'] === 'ok' ? 0 : 1);
