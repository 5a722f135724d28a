// Starts reveal.js on a deck, and sees to what it leaves open: the theme that code and the
// microscope ask for, screens held upright, plots on slides that were hidden, and what scrolls.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => { document.documentElement.dataset.theme = dark.matches ? "dark" : "light"; };
  dark.addEventListener("change", paint);
  paint();

  // Logical pixels, which reveal.js scales. Held upright, 70 real ones are for the lines below.
  const upright = matchMedia("(orientation: portrait)");
  const size = () => upright.matches
    ? { width: 480, height: 480 * Math.max(1, Math.min((innerHeight - 70) / innerWidth, 2)) }
    : { width: 960, height: 600 };

  // Drawn while its slide was hidden, a plot has the wrong width; its height follows the room.
  const draw = (plot) => {
    const box = plot.closest(".shown"), around = box.parentNode;
    plot.drawn ??= plot.layout.height ?? 400;
    const words = [...around.children].filter((one) => one !== box && one.offsetLeft === box.offsetLeft);
    const used = words.reduce((sum, one) => sum + one.offsetHeight + 16, box.scrollHeight - plot.offsetHeight);
    const height = Math.max(0.6 * plot.drawn, Math.min(2 * plot.drawn, around.clientHeight - used));
    Plotly.relayout(plot, { width: plot.parentNode.clientWidth, height });
  };

  const scrolls = (box) =>
    /auto|scroll/.test(getComputedStyle(box).overflow) &&
    (box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1);

  const SIZES = Array.from({ length: 13 }, (_, step) => 1.2 - 0.05 * step); // 1.2 to 0.6

  // The largest type at which a box need not scroll; a readable one where it has to all the same.
  const fit = (box, sizes) => {
    for (const size of [...sizes, 0.8]) {
      box.style.fontSize = `${size}em`;
      if (!scrolls(box)) return;
    }
  };

  // What still scrolls must take the focus: not everybody has a pointer.
  const reach = (box) => {
    if (scrolls(box)) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };

  const settle = (slide) => {
    slide.querySelectorAll(".shown").forEach((box) => fit(box, SIZES));
    slide.querySelectorAll(".plotly-graph-div").forEach(draw);
    slide.querySelectorAll(".content").forEach((box) => fit(box, [1, 0.9, 0.8]));
    slide.querySelectorAll(".content, .shown").forEach(reach);
  };

  const settleCurrent = () => settle(Reveal.getCurrentSlide());

  Reveal.on("ready", () => {
    settleCurrent();
    for (const change of ["slidechanged", "resize"]) Reveal.on(change, settleCurrent);
  });
  Reveal.on("pdf-ready", () => {
    for (const slide of document.querySelectorAll(".slides section")) {
      slide.removeAttribute("hidden"); // on paper each is seen, and read by who reads the PDF
      slide.removeAttribute("aria-hidden");
      settle(slide);
    }
  });
  addEventListener("resize", () => Reveal.configure(size()));
  Reveal.initialize({
    ...size(),
    margin: 0.05,
    center: false,
    display: "flex",
    hash: true,
    slideNumber: "c/t",
    transition: "none",
    scrollActivationWidth: null, // a phone gets slides as well
    // Up, down and the space bar belong to what scrolls or opens, as long as it has the focus.
    keyboardCondition: ({ target, key }) =>
      !(target.closest?.("summary, [tabindex='0']") && /^(Arrow(Up|Down)|Page(Up|Down)| |Enter)$/.test(key)),
    plugins: [RevealNotes],
  });
})();
