// MQTT in, protobuf decoded, written by the official InfluxDB client. Arguments: the broker's port, the database's.
// It says "ready" when it has subscribed, and runs until it is stopped.
import { InfluxDB, Point } from "@influxdata/influxdb-client";
import mqtt from "mqtt";
import protobuf from "protobufjs";
import { column } from "./column.mjs";

const [brokerPort, databasePort] = process.argv.slice(2);
const schema = new URL("../../../proto/hunhe/v1/report.proto", import.meta.url).pathname;
const Report = (await protobuf.load(schema)).lookupType("hunhe.v1.Report");
const HOUR_MS = 3_600_000;

const writer = new InfluxDB({ url: `http://127.0.0.1:${databasePort}`, token: "none" }).getWriteApi(
  "hunhe",
  "hunhe",
  "ms",
  { batchSize: 5000, flushInterval: 1000 },
);

function write(topic, payload) {
  const device = topic.split("/")[3];
  const report = Report.decode(payload);
  for (const block of report.blocks) {
    let time = Number(block.t0) * HOUR_MS;
    for (const value of column(block.principal)) {
      // The gateway's tags.
      const point = new Point("gas_meter").tag("device", device).tag("district", "210102");
      point.tag("operator", "gas").tag("zone", "gas-heping");
      writer.writePoint(point.floatField("register", value / 1000).timestamp(time));
      time += HOUR_MS;
    }
  }
}

const { BROKER_USER: username, BROKER_PASSWORD: password } = process.env;
const options = { clientId: "peer-node", clean: true, username, password };
const client = mqtt.connect(`mqtt://127.0.0.1:${brokerPort}`, options);
client.on("message", write);
client.on("connect", () => client.subscribe("hunhe/v1/+/+/up", { qos: 1 }, () => console.log("ready")));
