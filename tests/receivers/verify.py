"""Verifies webhooks as a receiver in Python would: a JSON array of {"secret", "headers", "body"} on stdin, one line of
`valid` or the library's refusal for each on stdout."""

import json
import sys

from standardwebhooks.webhooks import Webhook

for delivery in json.load(sys.stdin):
    try:
        payload = Webhook(delivery["secret"]).verify(delivery["body"], delivery["headers"])
        print("valid" if payload["eventId"] == delivery["headers"]["webhook-id"] else "another event")
    except Exception as refusal:  # noqa: BLE001 whatever it says is the answer
        print(refusal)
