//! Debian's Chromium, driven over WebDriver (W3C). Only what the tests need: no library, because each of them brings an HTTP
//! client and a TLS library of its own.

use std::{net::SocketAddr, process::Command, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Process, client, free_address, program, until};

/// A browser with one window.
pub struct Chromium {
    // Declared first, so that it ends before its directory is removed.
    _driver: Process,
    _dir: TempDir,
    address: SocketAddr,
    session: String,
}

impl Chromium {
    /// Starts it without a window on the screen.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("chromium-")
            .tempdir()
            .unwrap();
        let address = free_address();
        let mut command = Command::new(program("chromedriver"));
        command
            .arg(format!("--port={}", address.port()))
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .env("TMPDIR", dir.path());
        let mut driver = Process::start("chromedriver", &mut command, dir.path());
        driver
            .ready(async |_| {
                let reply = client::try_send(address, "GET", "/status", &[], "")
                    .await
                    .ok()?;
                (reply.json()["value"]["ready"] == true).then_some(())
            })
            .await;
        let options = json!({
            "binary": program("chromium"),
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-background-networking",
                "--window-size=1000,800",
                // Names for tests that need several hosts of one domain, with certificates of an authority of their own.
                "--host-resolver-rules=MAP *.example 127.0.0.1",
                "--ignore-certificate-errors",
            ],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}});
        let reply = client::send(address, "POST", "/session", &JSON, wanted.to_string()).await;
        let answer = reply.json();
        let session = answer["value"]["sessionId"].as_str();
        let session = session.unwrap_or_else(|| panic!("{answer}")).to_owned();
        Self {
            _driver: driver,
            _dir: dir,
            address,
            session,
        }
    }

    /// Goes to a page.
    pub async fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url})).await;
    }

    /// Where it is.
    pub async fn url(&self) -> String {
        self.get("/url").await.as_str().unwrap().to_owned()
    }

    /// The text of the page, as people see it.
    pub async fn text(&self) -> String {
        let text = self.run("return document.body.innerText", &json!([])).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Types into the focused element or another one.
    pub async fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        let path = format!("/element/{element}/value");
        self.post(&path, &json!({"text": text})).await;
    }

    /// Presses a button or a link.
    pub async fn press(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/click"), &json!({}))
            .await;
    }

    /// Runs a function body in the page, and gives what it returns. Waits for a promise.
    pub async fn run(&self, body: &str, arguments: &Value) -> Value {
        self.post("/execute/sync", &json!({"script": body, "args": arguments}))
            .await
    }

    /// Waits until the page is at a URL that contains this.
    pub async fn reaches(&self, part: &str) {
        until(
            &format!("a page at {part}"),
            Duration::from_secs(60),
            async || self.url().await.contains(part).then_some(()),
        )
        .await;
    }

    /// Opens another tab and goes there. Gives the name of the one before.
    pub async fn another_tab(&self) -> String {
        let before = self.get("/window").await.as_str().unwrap().to_owned();
        let new = self.post("/window/new", &json!({"type": "tab"})).await;
        self.tab(new["handle"].as_str().unwrap()).await;
        before
    }

    /// Goes to a tab.
    pub async fn tab(&self, name: &str) {
        self.post("/window", &json!({"handle": name})).await;
    }

    /// Sends a command of Chromium's own protocol.
    pub async fn command(&self, command: &str, parameters: &Value) {
        let body = json!({"cmd": command, "params": parameters});
        self.post("/goog/cdp/execute", &body).await;
    }

    /// A picture of the page, as a PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let picture = self.get("/screenshot").await;
        BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    async fn element(&self, selector: &str) -> String {
        let found = json!({"using": "css selector", "value": selector});
        let found = self.post("/element", &found).await;
        let id = found.as_object().unwrap().values().next().unwrap();
        id.as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str) -> Value {
        let path = format!("/session/{}{path}", self.session);
        let reply = client::send(self.address, "GET", &path, &[], "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()["value"].clone()
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        let reply = client::send(self.address, "POST", &path, &JSON, body.to_string()).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()["value"].clone()
    }

    /// Ends the browser.
    pub async fn close(self) {
        let path = format!("/session/{}", self.session);
        client::send(self.address, "DELETE", &path, &[], "").await;
    }
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
