// What the page remembers from visit to visit, in this browser. Never a key.

const PLACE = "streamcodec";

// An object: empty at the first visit, and where the browser keeps nothing.
export function remembered() {
  try {
    const values = JSON.parse(localStorage.getItem(PLACE));
    return values && typeof values === "object" ? values : {};
  } catch {
    return {};
  }
}

export function remember(values) {
  try {
    localStorage.setItem(PLACE, JSON.stringify({ ...remembered(), ...values }));
  } catch {
    // private windows and full stores: then it is not remembered
  }
}
