//! The page of `analyze --html` in a browser: what it shows, search, zoom, keyboard, light and dark, no network.

mod browser;

use crate::support::{Image, Need, Scene, real};
use browser::Browser;

/// The names of what the tiles of the treemap stand for, nested ones left out.
const TILES: &str =
    "[...document.querySelectorAll('#map > button[tabindex=\"0\"]')].map(b => b.title.split(',')[0]).sort().join(' ')";

fn page(needs: &[Need]) -> Option<(Scene, Browser)> {
    let scene = Scene::begin(needs)?;
    Image::new()
        .layer("file usr/lib/big #400000\nfile usr/lib/old #100000\nfile usr/bin/tool #200000\nfile etc/conf #50000")
        .layer("whiteout usr/lib/old\nfile etc/conf #60000\nfile etc/</script><b>\\x1b[31m #70000")
        .layer("file home/twin #80000")
        .write_oci(&scene.path("layout"), "known:1");
    scene.layerfs(["load", "layout"]).ok();
    scene.layerfs(["analyze", "--html", "page.html", "known:1"]).ok();
    let browser = Browser::open(&scene, &scene.path("page.html"));
    Some((scene, browser))
}

#[test]
fn the_page_shows_searches_and_zooms() {
    let Some((_scene, mut browser)) = page(&[Need::Program("chromium")]) else { return };
    assert_eq!(browser.value("document.title"), "known:1: layerfs analyze");
    assert_eq!(browser.value("document.querySelectorAll('#layers button').length"), 3);
    assert_eq!(browser.value(TILES), "/etc /home /usr");
    let figures = browser.value("document.getElementById('figures').textContent").as_str().map(str::to_owned);
    assert!(figures.as_deref().is_some_and(|text| text.contains("150 kBhidden")), "{figures:?}");
    let waste = browser.value("document.getElementById('waste').textContent").as_str().map(str::to_owned);
    assert!(waste.as_deref().is_some_and(|text| text.contains("/usr/lib/olddeleted")), "{waste:?}");
    assert_eq!(
        browser.value("document.querySelectorAll('b').length === document.querySelectorAll('#figures b').length"),
        true
    );

    // Zoom: a click goes in, the path above goes out again.
    browser.value("document.querySelector('#map > button[title^=\"/usr,\"]').click()");
    assert_eq!(browser.value(TILES), "/usr/bin /usr/lib");
    browser.value("document.querySelector('#crumbs button').click()");
    assert_eq!(browser.value(TILES), "/etc /home /usr");

    // Search: the hits are listed and marked, choosing one goes there.
    browser.value("document.getElementById('search').focus()");
    browser.type_text("TWIN");
    browser.until("document.querySelectorAll('#hits button').length === 1");
    assert_eq!(browser.value("document.querySelector('#hits button').textContent"), "/home/twin  80.0 kB");
    assert_eq!(browser.value("document.querySelectorAll('#map .hit').length"), 1);
    browser.value("document.querySelector('#hits button').click()");
    assert_eq!(browser.value(TILES), "/home/twin");
    let requests = browser.close();
    assert!(requests.iter().all(|address| address.starts_with("file://") || address == "about:blank"), "{requests:?}");
    assert!(requests.iter().filter(|address| address.starts_with("file://")).count() <= 1, "{requests:?}");
}

#[test]
fn the_page_is_used_by_keyboard() {
    let Some((_scene, mut browser)) = page(&[Need::Program("chromium")]) else { return };
    browser.press("1");
    assert_eq!(browser.value("document.getElementById('view').value"), "1");
    assert_eq!(browser.value(TILES), "/etc");
    let told = browser.value("document.getElementById('instruction').textContent").as_str().map(str::to_owned);
    assert!(told.as_deref().is_some_and(|text| text.contains("1 removed")), "{told:?}");
    browser.press("m");
    assert_eq!(browser.value(TILES), "/etc /home /usr");

    // Tab reaches the tiles, arrows move among them, Enter goes in, Backspace goes up.
    let mut steps = 0;
    while browser.value("document.activeElement.title.startsWith('/usr,')") != true {
        browser.press("Tab");
        steps += 1;
        assert!(steps < 60, "Tab does not reach the map");
    }
    browser.press("ArrowRight");
    assert_ne!(browser.value("document.activeElement.title.split(',')[0]"), "/usr");
    browser.press("ArrowLeft");
    assert_eq!(browser.value("document.activeElement.title.split(',')[0]"), "/usr");
    browser.press("Enter");
    assert_eq!(browser.value(TILES), "/usr/bin /usr/lib");
    browser.press("Backspace");
    assert_eq!(browser.value(TILES), "/etc /home /usr");
    browser.press("/");
    assert_eq!(browser.value("document.activeElement.id"), "search");
    browser.type_text("tool");
    browser.until("document.querySelectorAll('#hits button').length === 1");
    browser.press("Escape");
    assert_eq!(browser.value("document.getElementById('hits').hidden"), true);
    browser.close();
}

/// Whether text can be read: the contrast of its colour to the background's is what WCAG 2.1 asks for (4.5:1).
const CONTRAST: &str = "(() => {
    const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const back = light(getComputedStyle(document.body).backgroundColor);
    return Math.min(...['body', '.soft', '#up'].map(name => light(getComputedStyle(document.querySelector(name)).color))
        .map(text => (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05)));
})()";

#[test]
fn the_page_is_light_or_dark_as_the_system_is() {
    let Some((_scene, mut browser)) = page(&[Need::Program("chromium")]) else { return };
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.colours(scheme);
        let contrast = browser.value(CONTRAST).as_f64().expect("a number");
        assert!(contrast >= 4.5, "{scheme}: contrast {contrast}");
        backgrounds.push(browser.value("getComputedStyle(document.body).backgroundColor").to_string());
        assert!(browser.screenshot().starts_with(b"\x89PNG"), "a picture");
    }
    assert_eq!(backgrounds, ["\"rgb(251, 251, 250)\"", "\"rgb(22, 24, 27)\""]);
    browser.close();
}

/// The picture in the documentation: `LAYERFS_SCREENSHOT=FILE` writes it.
#[test]
fn the_page_of_a_real_image_opens() {
    let Some(scene) = Scene::begin(&[Need::Program("chromium"), Need::Image("large")]) else { return };
    let source = format!("oci:{}:latest", real::image("large").oci().display());
    scene.load(&source);
    scene.layerfs(["tag", "oci:latest", "example:latest"]).ok();
    scene.layerfs(["analyze", "--html", "page.html", "example"]).ok();
    let mut browser = Browser::open(&scene, &scene.path("page.html"));
    let told = scene.layerfs(["analyze", "--format", "json", "example"]).ok().json();
    let layers = told["layers"].as_array().map(Vec::len);
    assert_eq!(
        browser.value("document.querySelectorAll('#layers button').length").as_u64(),
        layers.map(|count| count as u64)
    );
    assert!(browser.value("document.querySelectorAll('#map button').length").as_u64() > Some(20));
    let picture = browser.screenshot();
    if let Some(file) = std::env::var_os("LAYERFS_SCREENSHOT") {
        std::fs::write(file, &picture).expect("write the picture");
    }
    browser.close();
}
