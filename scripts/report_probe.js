// Runs in a page under test, before its own content, and tells the page around it what is wrong.
const faults = [];
addEventListener("error", event => faults.push("script: " + event.message));
addEventListener("unhandledrejection", event => faults.push("script: " + event.reason));
const channels = colour => (colour.match(/[\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const behind = element => {
    for (let at = element; at; at = at.parentElement) {
        const colour = channels(getComputedStyle(at).backgroundColor);
        if (colour.length === 3 || colour[3] > 0.5) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches && document.querySelector("meta[name=color-scheme]")
        ? [18, 18, 18] : [255, 255, 255];
};
addEventListener("load", () => {
    document.querySelectorAll("details").forEach(one => one.open = true);
    const page = document.documentElement;
    if (page.scrollWidth > innerWidth + 1) {
        const wide = [...document.body.querySelectorAll("*")].filter(one =>
            one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll, pre, svg"));
        const names = wide.slice(0, 3).map(one => one.tagName + "." + one.className).join(", ");
        faults.push(`scrolls sideways: ${page.scrollWidth} of ${innerWidth} px (${names})`);
    }
    const silent = [...document.images].filter(one => !(one.alt || "").trim());
    if (silent.length) faults.push(`${silent.length} of ${document.images.length} images have no alt text`);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const dim = new Set();
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || parent.closest("script, style, title, svg")) continue;
        const [a, b] = [channels(getComputedStyle(parent).color), behind(parent)].map(luminance);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 2.5) dim.add(parent.tagName + "." + parent.className);
    }
    if (dim.size) faults.push(`text that cannot be read: ${[...dim].slice(0, 3).join(", ")}`);
    const text = ["PROBED", ...faults.map(fault => "FAULT " + fault)].join("\n");
    parent.postMessage(text.replaceAll("<", "(") + "\n", "*");
});
