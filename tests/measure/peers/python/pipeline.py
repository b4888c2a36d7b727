"""MQTT in, protobuf decoded, written by the official InfluxDB client. Arguments: the broker's port, the database's.

It says "ready" when it has subscribed, and runs until it is stopped.
"""

import os
import sys

import paho.mqtt.client as mqtt
from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision

from column import column
from schema import Report

HOUR_MS = 3_600_000


def main() -> None:
    broker_port, database_port = (int(text) for text in sys.argv[1:3])
    database = InfluxDBClient(url=f"http://127.0.0.1:{database_port}", token="none", org="hunhe")
    writer = database.write_api(write_options=WriteOptions(batch_size=5000, flush_interval=1000))

    def on_connect(client, _userdata, _flags, _reason, _properties):
        client.subscribe("hunhe/v1/+/+/up", qos=1)

    def on_subscribe(_client, _userdata, _mid, _reasons, _properties):
        print("ready", flush=True)

    def on_message(_client, _userdata, message):
        device = message.topic.split("/")[3]
        points = []
        for block in Report.FromString(message.payload).blocks:
            for hour, value in enumerate(column(block.principal), block.t0):
                # The gateway's tags.
                point = Point("gas_meter").tag("device", device).tag("district", "210102")
                point.tag("operator", "gas").tag("zone", "gas-heping").field("register", value / 1000)
                points.append(point.time(hour * HOUR_MS, WritePrecision.MS))
        writer.write(bucket="hunhe", record=points)

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="peer-python")
    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.username_pw_set(os.environ["BROKER_USER"], os.environ["BROKER_PASSWORD"])
    client.connect("127.0.0.1", broker_port)
    client.loop_forever()


if __name__ == "__main__":
    main()
