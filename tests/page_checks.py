"""What a browser finds wrong with a page: functions in JavaScript that return it, none if nothing is."""

PALE = """() => {
  const parsed = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const over = (front, back) => {
    const share = front[3] ?? 1;
    return back.map((colour, i) => share * front[i] + (1 - share) * colour);
  };
  const weights = [0.2126, 0.7152, 0.0722];
  const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = colour => weights.reduce((sum, weight, i) => sum + weight * linear(colour[i] / 255), 0);
  const behind = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(parsed(getComputedStyle(at).backgroundColor));
    }
    return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (!text || element.tagName === 'STYLE' || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const back = behind(element);
    const front = over(parsed(element.closest('svg') ? style.fill : style.color), back);
    const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) found.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}, ${front} on ${back}`);
  }
  return found;
}"""
"""Texts whose contrast with what is behind them is below 4.5, as WCAG 2 computes it."""

CLIPPED = """() => [...document.querySelectorAll('body *')].filter(element => {
  const box = element.getBoundingClientRect();
  if (!element.checkVisibility() || !box.width || element.closest('.chart')) return false;
  const hides = ['hidden', 'clip'].includes(getComputedStyle(element).overflowX);
  const cut = hides && element.scrollWidth > element.clientWidth + 1;
  const scrolls = element.closest('.scroll, pre') !== null;
  return cut || (!scrolls && (box.right > innerWidth + 0.5 || box.left < -0.5));
}).map(element => `${element.tagName} ${element.className}: ${element.textContent.slice(0, 40)}`)"""
"""What lies beyond the page's edges, or is cut off in its box, but for what scrolls in a box of its own."""

WITHOUT_TEXT = """() => [...document.querySelectorAll('img, svg')].filter(picture => {
  const hidden = picture.closest('[aria-hidden=true]');
  const said = picture.closest('[role=img][aria-label]:not([aria-label=""])');
  return !hidden && !said && !(picture.tagName === 'IMG' && picture.alt);
}).map(picture => picture.outerHTML.slice(0, 80))"""
"""Pictures that a reader who does not see them is told nothing of."""

OVERLAPPING = """() => [...document.querySelectorAll('.bars > li')].flatMap(row => {
  const parts = [...row.children].filter(part => part.getBoundingClientRect().width);
  const meet = (one, other) => {
    const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
    const beside = a.right < b.left + 0.5 || b.right < a.left + 0.5;
    return !beside && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
  };
  return parts.flatMap((one, i) => parts.slice(i + 1).filter(other => meet(one, other)).map(
    other => `${one.textContent.trim()} and ${other.textContent.trim()}`
  ));
})"""
"""Parts of the figure of a report, row by row, that lie over each other."""
