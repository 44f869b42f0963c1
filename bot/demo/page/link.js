// The websocket: requests with answers, news from the server, and reconnecting by itself.

const WAITS = [300, 800, 2000, 4000];

export class Link {
  constructor({ onopen, onpush, onstatus }) {
    Object.assign(this, { onopen, onpush, onstatus, last: 0, tries: 0, waiting: new Map() });
    this.connect();
  }

  connect() {
    const address = new URL("socket", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address);
    this.socket.onopen = () => {
      this.tries = 0;
      this.onstatus(true);
      this.onopen();
    };
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.socket.onclose = () => {
      for (const { reject } of this.waiting.values()) reject(new Error("The connection was lost; try again."));
      this.waiting.clear();
      this.onstatus(false);
      setTimeout(() => this.connect(), WAITS[Math.min(this.tries++, WAITS.length - 1)]);
    };
  }

  receive(message) {
    if (message.push) return this.onpush(message);
    const { resolve, reject } = this.waiting.get(message.re) ?? {};
    this.waiting.delete(message.re);
    if (message.error) reject?.(new Error(message.error));
    else resolve?.(message.value);
  }

  // Ask the server to `what`; the answer's promise fails with a sentence fit for a person.
  ask(what, fields = {}) {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.reject(new Error("Not connected; one moment."));
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ id, do: what, ...fields }));
    });
  }
}
