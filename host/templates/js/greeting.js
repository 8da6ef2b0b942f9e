// What is said: plain JavaScript, tested by `npm test`.

export function greeting(name, number) {
  return `hello ${name}, number ${number}`;
}
