/**
 * The one critical alarm: two tones, three times, made by WebAudio, again every quarter of a minute while a critical
 * incident waits for somebody. Browsers keep it silent until a gesture; that is shown, never assumed.
 */

const STORED = "qorgan.muted";
const AGAIN_MS = 15_000;
const TONES_HZ = [880, 622];
const TONE_S = 0.18;

export class Alarm extends EventTarget {
  #context = null;
  #timer = null;
  rings = 0;

  constructor() {
    super();
    for (const gesture of ["pointerdown", "keydown"]) addEventListener(gesture, () => this.unlock(), { passive: true });
  }

  /** `on`, `muted`, or `locked`: the browser waits for a gesture. */
  get state() {
    if (localStorage.getItem(STORED)) return "muted";
    return this.#context?.state === "running" ? "on" : "locked";
  }

  async unlock() {
    if (this.#context?.state === "running") return;
    try {
      this.#context ??= new AudioContext();
      await this.#context.resume();
    } catch {
      this.#context = null; // a machine without sound still shows everything
    }
    this.dispatchEvent(new CustomEvent("change"));
  }

  toggle() {
    if (this.state === "muted") localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, "1");
    this.dispatchEvent(new CustomEvent("change"));
  }

  /** Ring now. */
  ring() {
    this.rings += 1;
    if (this.state === "on") {
      const start = this.#context.currentTime + 0.02;
      for (let index = 0; index < 6; index += 1) this.#tone(TONES_HZ[index % 2], start + index * (TONE_S + 0.03));
    }
    this.dispatchEvent(new CustomEvent("change"));
  }

  /** Keep ringing while `needed`, and stop at once when not. */
  keep(needed) {
    if (!needed) {
      clearInterval(this.#timer);
      this.#timer = null;
    } else {
      this.#timer ??= setInterval(() => this.ring(), AGAIN_MS);
    }
  }

  #tone(hertz, at) {
    const tone = this.#context.createOscillator();
    const volume = this.#context.createGain();
    tone.type = "triangle";
    tone.frequency.value = hertz;
    volume.gain.setValueAtTime(0.0001, at);
    volume.gain.exponentialRampToValueAtTime(0.35, at + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.0001, at + TONE_S);
    tone.connect(volume).connect(this.#context.destination);
    tone.start(at);
    tone.stop(at + TONE_S + 0.02);
  }
}
