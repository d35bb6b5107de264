// One press does one thing, whatever it is made of: a click, a double click, a tap, a key that is held.

const DOUBLE_MS = 400; // between the presses of a double one

// Calls `act` once a press. A mouse counts its clicks itself; keys and fingers are timed.
export function onPress(button, act) {
  let last = -Infinity;
  button.addEventListener("keydown", (event) => event.repeat && event.preventDefault());
  button.addEventListener("click", (event) => {
    const before = last;
    last = event.timeStamp;
    if (event.pointerType === "mouse" ? event.detail < 2 : last - before > DOUBLE_MS) act();
  });
}

const TYPED = "[type=text], [type=password], select"; // where a letter is a letter

// on: { start, stop, mute }, for Enter in a field of the form, Escape and M.
export function onKeys(form, on) {
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.repeat || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
    if (key === "Enter" && form.contains(target) && target.matches("[type=text], [type=password]")) on.start();
    else if (key === "Escape" && !target.matches("select")) on.stop();
    else if (key.toLowerCase() === "m" && !target.matches(TYPED)) on.mute();
  });
}
