// The peer's service: a handler that does nothing, and a chain of three that hand on to each other.
import * as http from "node:http";

// The SDK takes it for granted; Node has it from 22 on.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
const restate = await import("@restatedev/restate-sdk");

const [port, counts] = process.argv.slice(2).map(Number);
const handled = { noop: 0, third: 0 };

const noop = restate.service({
  name: "noop",
  handlers: { run: async (_context, _event) => { handled.noop += 1; } },
});
const handsOnTo = (name, next) => restate.service({
  name,
  handlers: { run: async (context, event) => { context.serviceSendClient({ name: next }).run(event); } },
});
const third = restate.service({
  name: "third",
  handlers: { run: async (_context, _event) => { handled.third += 1; } },
});

http.createServer((_request, response) => response.end(JSON.stringify(handled))).listen(counts, "127.0.0.1");
restate.endpoint()
  .bind(noop).bind(handsOnTo("first", "second")).bind(handsOnTo("second", "third")).bind(third)
  .listen(port);
