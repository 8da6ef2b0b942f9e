// Greets whoever an event names, and counts the greetings.

import store from 'wasi:keyvalue/store@0.2.0-draft2';
import log from 'tidegate:function/log@0.1.0';
import { greeting } from './greeting.js';

export async function handle(event) {
  const { name } = JSON.parse(decode(event.data));
  const greeted = store.open('{{name}}');
  const before = greeted.get(name);
  const number = before ? Number(decode(before)) + 1 : 1;
  greeted.set(name, encode(String(number)));
  log.write('info', greeting(name, number));
}

// The engine has no TextDecoder.
function decode(bytes) {
  return decodeURIComponent(Array.from(bytes, (byte) => '%' + byte.toString(16).padStart(2, '0')).join(''));
}

function encode(text) {
  const bytes = encodeURIComponent(text).replace(/%(..)/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Uint8Array.from(bytes, (char) => char.charCodeAt(0));
}
