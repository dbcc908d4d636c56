#!/usr/bin/env bash
# Order a channel with mosquitto's command-line clients, for trying things out and for support at night.
#
#   OPERATOR=kaisa CARD=100000000008 BROKER=broker.example PORT=8883 CA=ca.pem CERT=kaisa.pem KEY=kaisa.key \
#       ./with_mosquitto.sh
set -euo pipefail

replies="cad/v1/$OPERATOR/rep/example-shell"
connect=(-V 5 -q 1 -h "${BROKER:-localhost}" -p "${PORT:-8883}")
if [ -n "${CA:-}" ]; then
    connect+=(--cafile "$CA" --cert "$CERT" --key "$KEY")
fi

# order ID RESOURCE VERB JSON: sends a command, and prints its reply. Sends it again when none comes within ten seconds.
order() {
    local id=$1 topic="cad/v1/$OPERATOR/cmd/$2/$3" body=$4 listener line
    while true; do
        coproc LISTENER { exec stdbuf -oL mosquitto_sub "${connect[@]}" -t "$replies" -W 10 -d; }
        listener=$LISTENER_PID
        exec {heard}<&"${LISTENER[0]}"
        while read -r line <&"$heard"; do
            case $line in
                # Only when the broker has the subscription, or the reply may be gone before we listen.
                Subscribed*) mosquitto_pub "${connect[@]}" -t "$topic" -m "$body" \
                    -D publish response-topic "$replies" -D publish user-property id "$id" ;;
                *"\"id\":\"$id\""*)
                    printf '%s\n' "$line"
                    kill "$listener" 2>/dev/null || true
                    wait "$listener" 2>/dev/null || true
                    exec {heard}<&-
                    return ;;
            esac
        done
        exec {heard}<&-
        echo "$id: no reply yet, sending it again" >&2
    done
}

order offer-shell-1 offer put '{"offer":"sport","rev":1,"kind":"channel","names":{"en":"Sport"},"products":["sport"]}'
order assign-shell-1 card assign "{\"card\":\"$CARD\",\"rev\":1,\"subscriber\":\"customer-4711\"}"
order order-shell-1 subscription put "{\"subscription\":\"s-shell\",\"rev\":1,\"card\":\"$CARD\",\"offer\":\"sport\"}"
