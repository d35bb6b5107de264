// Keeps the screen on while there is a run: a phone that locks itself takes the sound away.

let wanted = false, lock = null;

async function ask() {
  if (!wanted || lock || document.visibilityState !== "visible") return;
  try {
    const mine = (lock = await navigator.wakeLock?.request("screen"));
    mine?.addEventListener("release", () => lock === mine && (lock = null));
    if (!wanted) keepAwake(false);
  } catch {
    // a battery that is low, or a browser that does not: the run goes on without
  }
}

export function keepAwake(on) {
  wanted = on;
  if (on) return void ask();
  lock?.release();
  lock = null;
}

// The browser lets go of it when the page is hidden.
document.addEventListener("visibilitychange", ask);
