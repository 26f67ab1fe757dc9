/** How many pixels of a picture (PNG, base64) have the colour of the alert ring. */
async (picture) => {
  const image = new Image();
  image.src = `data:image/png;base64,${picture}`;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  const probe = document.body.appendChild(document.createElement("span"));
  probe.style.color = "var(--ring-alert)";
  const wanted = getComputedStyle(probe).color.match(/\d+/g).map(Number);
  probe.remove();
  canvas.drawImage(image, 0, 0);
  const { data } = canvas.getImageData(0, 0, image.width, image.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (wanted.every((value, channel) => Math.abs(value - data[i + channel]) < 12)) count += 1;
  }
  return count;
}
