//! A Redis of the test's own, which keeps nothing and ends with the test.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::Client;
use tokio::time::{sleep, timeout};
use visavis_signaling::cluster::RedisUrl;

use super::LIMIT;

pub struct Redis {
    port: u16,
    server: Option<Child>,
    folder: tempfile::TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        // Somebody else may take the port meanwhile: then the next one.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder = tempfile::tempdir().unwrap();
            let mut redis = Self { port, server: None, folder };
            if redis.run().await {
                return redis;
            }
        }
        panic!("no redis-server could be started; it is in Debian's package redis-server");
    }

    /// Whether it came up.
    pub async fn run(&mut self) -> bool {
        let port = self.port.to_string();
        let server = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, of Debian's package redis-server");
        self.server = Some(server);
        let up = async {
            while !self.answers().await {
                if self.server.as_mut().unwrap().try_wait().unwrap().is_some() {
                    return false;
                }
                sleep(Duration::from_millis(10)).await;
            }
            true
        };
        timeout(LIMIT, up).await.expect("Redis in time")
    }

    async fn answers(&self) -> bool {
        let Ok(mut connection) = self.client().get_multiplexed_async_connection().await else {
            return false;
        };
        redis::cmd("PING").query_async::<()>(&mut connection).await.is_ok()
    }

    fn client(&self) -> Client {
        Client::open(self.url().as_str()).unwrap()
    }

    pub fn url(&self) -> RedisUrl {
        format!("redis://127.0.0.1:{}/0", self.port).parse().unwrap()
    }

    /// Sends one command, given as words.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = self.client().get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        timeout(LIMIT, command.query_async(&mut connection)).await.unwrap().unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// It is there, but does nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// It is gone, with all it knew.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Ends a frozen one too.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
