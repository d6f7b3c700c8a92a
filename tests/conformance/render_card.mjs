// Renders the approval card with a tool's result, as a host would, and prints what came of it: render_card.mjs JSDOM CARD RESULT
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [library, card, result] = process.argv.slice(2);
const { JSDOM, VirtualConsole } = (await import(pathToFileURL(library))).default;
const errors = [], posted = [];
const virtualConsole = new VirtualConsole();
virtualConsole.on("jsdomError", (error) => errors.push(error.message));
const dom = new JSDOM(readFileSync(card, "utf-8"), {
  runScripts: "dangerously",
  virtualConsole,
  beforeParse: (window) => { window.postMessage = (message) => posted.push(message); },
});
const { window } = dom;
const say = (data, source) => window.dispatchEvent(new window.MessageEvent("message", { data, source }));
const told = { jsonrpc: "2.0", method: "ui/notifications/tool-result", params: JSON.parse(readFileSync(result, "utf-8")) };
say({ jsonrpc: "2.0", id: 1, result: {} }, window.parent);
say(told, null);
const fromElsewhere = window.document.getElementById("card").textContent;
say(told, window.parent);
const main = window.document.getElementById("card");
console.log(JSON.stringify({ html: main.outerHTML, text: main.textContent, fromElsewhere, posted, errors, harmed: window.harmed ?? null }));
