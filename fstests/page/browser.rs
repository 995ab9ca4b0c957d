//! A headless Chromium, driven through the pipe of its DevTools protocol: JSON messages, each ended by NUL.

use crate::support::Scene;
use base64::Engine as _;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Child;

/// One page in a browser of its own.
pub(super) struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    number: u64,
    /// Addresses that the page asked for.
    requests: Vec<String>,
}

impl Browser {
    /// Starts a browser and opens `page` in it, in a window of 1280×900.
    pub(super) fn open(scene: &Scene, page: &Path) -> Self {
        let pipes = scene.dir("browser");
        scene.run("mkfifo").args([pipes.join("to"), pipes.join("from")]).ok();
        // Run as root and in containers, where it cannot make its own sandbox; it sees nothing but a page of ours.
        let script = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
                      --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars \
                      --host-resolver-rules='MAP * ~NOTFOUND' --window-size=1280,900 --user-data-dir=\"$1/profile\" \
                      --remote-debugging-pipe about:blank 3<\"$1/to\" 4>\"$1/from\" 2>\"$1/log\"";
        let child = scene.run("sh").args(["-c", script, "sh"]).arg(&pipes).spawn();
        let to = File::options().write(true).open(pipes.join("to")).expect("the pipe to the browser");
        let from = BufReader::new(File::open(pipes.join("from")).expect("the pipe from the browser"));
        let mut browser = Self { child, to, from, session: None, number: 0, requests: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({}));
        browser.call("Network.enable", json!({}));
        let size = json!({ "width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        let address = format!("file://{}", page.display());
        browser.call("Page.navigate", json!({ "url": address }));
        browser.until("document.readyState === 'complete'");
        browser
    }

    /// Calls a method of the protocol and returns its result.
    pub(super) fn call(&mut self, method: &str, parameters: impl Into<Value>) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters.into() });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("write to the browser");
        loop {
            let mut answer = Vec::new();
            self.from.read_until(0, &mut answer).expect("read from the browser");
            assert_eq!(answer.pop(), Some(0), "the browser has ended");
            let answer: Value = serde_json::from_slice(&answer).expect("JSON from the browser");
            if answer["method"] == "Network.requestWillBeSent" {
                self.requests.push(answer["params"]["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// The value of a JavaScript expression in the page.
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until a JavaScript expression is true; the scene's watchdog ends a wait in vain.
    pub(super) fn until(&mut self, expression: &str) {
        while self.value(expression) != true {
            std::thread::yield_now();
        }
    }

    /// Presses and releases a key: a character, or a key by its name.
    pub(super) fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Backspace" => 8,
            "Tab" => 9,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            other => u32::from(other.to_ascii_uppercase().as_bytes()[0]),
        };
        let text = match key {
            "Enter" => "\r",
            key if key.chars().count() == 1 => key,
            _ => "",
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types a text where the focus is.
    pub(super) fn type_text(&mut self, text: &str) {
        for character in text.chars() {
            self.press(&character.to_string());
        }
    }

    /// Tells the page that the system is light or dark.
    pub(super) fn colours(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// What is to be seen, as a PNG.
    pub(super) fn screenshot(&mut self) -> Vec<u8> {
        let data = self.call("Page.captureScreenshot", json!({ "format": "png" }))["data"].clone();
        base64::engine::general_purpose::STANDARD.decode(data.as_str().expect("data")).expect("base64")
    }

    /// Ends the browser, and returns the addresses that the page asked for.
    pub(super) fn close(mut self) -> Vec<String> {
        self.session = None;
        self.call("Browser.close", json!({}));
        self.child.wait().expect("wait for the browser");
        self.requests
    }
}
