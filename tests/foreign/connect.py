import sys
import time

import requests

server, document_hash, case_id = sys.argv[1:]
url = f"http://{server}/registrar.v1.RegistrarService/RegisterDocument"
request = {"documentHash": document_hash, "caseId": case_id, "waitFor": "WAIT_FOR_CONFIRMED", "waitTimeout": "20s"}
headers = {
    "connect-timeout-ms": "30000",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",  # of your own trace
}
with requests.Session() as session:
    for attempt in range(5):
        try:
            answer = session.post(url, json=request, headers=headers, timeout=35)
            if answer.status_code not in (429, 503):
                break
        except requests.RequestException as error:  # the outcome is unknown: the same pair may be sent again
            print(error, file=sys.stderr)
            answer = None
        time.sleep(0.5 * 2**attempt)
if answer is None:
    sys.exit("the service cannot be reached")
if answer.ok:
    registration = answer.json()["registration"]
    print(registration["id"], registration["state"], registration["transaction"]["hash"])
else:
    error = answer.json()
    print(error["code"], answer.headers.get("x-error-reason"), answer.headers.get("x-registration-id"), error["message"])
    for detail in error.get("details", []):
        print(detail["type"], detail.get("debug"))
