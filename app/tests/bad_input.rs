//! What is wrong on the command line, in files, at servers and at the other end: each a
//! sentence that names the thing, the documented exit code, and nothing else lost.
#![cfg(unix)] // ends programs by signals

mod common;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::SOON;
use common::headless::Scene;
use common::process::{Process, Server};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

const UP: Duration = Duration::from_secs(40);

/// Exit codes as `visavis --help` lists them.
const USAGE: i32 = 2;
const NO_DISPLAY: i32 = 3;
const SERVER: i32 = 5;
const DEVICE: i32 = 6;
const LISTEN: i32 = 7;

/// What `visavis` says before it ends with `code`.
async fn refused(code: i32, arguments: &[&str]) -> Result<String> {
    let mut process = Process::visavis(arguments)?;
    let status = process.ended(UP).await?;
    let said = process.errors().join("\n");
    ensure!(status.code() == Some(code), "{arguments:?}: {status}, not {code}: {said}");
    ensure!(!said.contains("panicked"), "{arguments:?}: {said}");
    Ok(said)
}

/// The same of a call in which nothing else is wrong.
async fn call_refused(code: i32, server: &Server, more: &[&str]) -> Result<String> {
    let call = ["call", "tea", "--headless", "--server", &server.url];
    let quiet =
        [("--video-source", "testcard"), ("--audio-source", "testcard"), ("--audio-sink", "none")];
    let quiet = quiet.iter().filter(|(option, _)| !more.contains(option));
    let quiet: Vec<&str> = quiet.flat_map(|(option, value)| [*option, *value]).collect();
    refused(code, &[&call[..], &quiet, more].concat()).await
}

/// All of these are in what was said.
fn names(said: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(said.contains(word), "{word:?} is missing in: {said}");
    }
    Ok(())
}

fn file(path: &Path) -> String {
    format!("file:{}", path.display())
}

#[tokio::test]
async fn a_missing_or_corrupt_clip_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start().await?;
    let clip = |name: &str| folder.path().join(name);
    std::fs::write(clip("text.y4m"), "a poem")?;
    std::fs::write(clip("size.y4m"), "YUV4MPEG2 W0 H9 F30:1\nFRAME\n")?;
    std::fs::write(clip("rate.y4m"), "YUV4MPEG2 W64 H64 F30:0\nFRAME\n")?;
    std::fs::write(clip("short.y4m"), "YUV4MPEG2 W64 H64 F30:1\nFRAME\nbut no picture")?;
    std::fs::write(clip("empty.y4m"), "")?;
    for (name, reason) in [
        ("missing.y4m", "No such file"),
        ("text.y4m", "it is no Y4M file"),
        ("size.y4m", "width"),
        ("rate.y4m", "rate"),
        ("short.y4m", ""),
        ("empty.y4m", ""),
    ] {
        let source = file(&clip(name));
        let said = call_refused(DEVICE, &server, &["--video-source", &source]).await?;
        names(&said, &["Cannot play", name, reason])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_missing_or_corrupt_sound_file_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start().await?;
    let sound = |name: &str| folder.path().join(name);
    std::fs::write(sound("text.wav"), "a poem")?;
    std::fs::write(sound("empty.wav"), "")?;
    std::fs::write(sound("header.wav"), b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0")?;
    for (name, reason) in [
        ("missing.wav", "No such file"),
        ("text.wav", "it is no WAV file"),
        ("empty.wav", ""),
        ("header.wav", ""),
    ] {
        let source = file(&sound(name));
        let said = call_refused(DEVICE, &server, &["--audio-source", &source]).await?;
        names(&said, &["Cannot use", name, reason])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start().await?;
    let nowhere = folder.path().join("no-such-folder");
    let sink = file(&nowhere.join("out.wav"));
    let said = call_refused(DEVICE, &server, &["--audio-sink", &sink]).await?;
    names(&said, &["no-such-folder/out.wav", "No such file"])?;
    let said = call_refused(DEVICE, &server, &["--audio-sink", &file(folder.path())]).await?;
    names(&said, &["Cannot use", &folder.path().display().to_string(), "directory"])?;
    for option in ["--stats", "--frame-log"] {
        let path = nowhere.join("lines").display().to_string();
        let said = call_refused(DEVICE, &server, &[option, &path]).await?;
        names(&said, &["cannot write", "no-such-folder/lines", "No such file"])?;
    }
    Ok(())
}

#[tokio::test]
async fn a_device_that_does_not_exist_is_named_with_those_that_do() -> Result<()> {
    let server = Server::start().await?;
    for (option, value) in [
        ("--video-source", "camera:Cyclops"),
        ("--video-source", "camera:99"),
        ("--audio-source", "mic:Cyclops"),
        ("--audio-sink", "speaker:Cyclops"),
    ] {
        let said = call_refused(DEVICE, &server, &[option, value]).await?;
        // With no device at all the sentence says that; with others it lists them.
        let (kind, wanted) = value.split_once(':').context("a colon")?;
        let kind = if kind == "mic" { "microphone" } else { kind };
        let unknown = said.contains(wanted) && said.contains("`visavis devices` lists");
        let none = said.contains(&format!("No {kind} was found"));
        ensure!(unknown || none, "{value}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_command_line_says_what_is_right() -> Result<()> {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["call", "tea", "--video-source", "webcam"], &["webcam", "camera:NAME", "testcard"]),
        (&["call", "tea", "--audio-source", "file:"], &["file:SPEECH.wav"]),
        (&["call", "tea", "--audio-sink", "loud"], &["speaker", "file:OUT.wav"]),
        (&["call", "tea", "--duration", "soon"], &["seconds"]),
        (&["call"], &["ROOM|URL"]),
        (&["dance"], &["dance"]),
    ];
    for (arguments, words) in cases {
        names(&refused(USAGE, arguments).await?, words)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_room_or_link_is_explained() -> Result<()> {
    let long = "x".repeat(65);
    for (target, words) in [
        ("http://127.0.0.1:8080/", "no room"),
        ("http://127.0.0.1:8080/room/", "no room"),
        ("ftp://127.0.0.1/room/tea", "ftp"),
        ("http://127.0.0.1:99999/room/tea", "port"),
        ("http://127.0.0.1:8080/room/a%20%2F", "cannot contain"),
        ("a*b", "'*'"),
        ("", ""),
        (&long, "64"),
    ] {
        let said = refused(USAGE, &["call", target, "--headless"]).await?;
        ensure!(!said.trim().is_empty(), "{target}: nothing said");
        names(&said, &[words]).with_context(|| target.to_owned())?;
    }
    let said = refused(USAGE, &["call", "tea", "--headless", "--server", "not an address"]).await?;
    names(&said, &["not an address"])
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named() -> Result<()> {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let link = format!("http://{free}/room/tea");
    let quiet = ["--video-source", "none", "--audio-source", "none"];
    let call = async |link: &str| {
        let arguments = [&["call", link, "--headless"][..], &quiet].concat();
        refused(SERVER, &arguments).await
    };
    names(&call(&link).await?, &[&free.to_string(), "check the address"])?;
    names(&call("http://no-such-host.invalid/room/tea").await?, &["no-such-host.invalid"])?;
    // A web server of another kind.
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = other.local_addr()?;
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
            let _ = stream.write_all(answer).await;
        }
    });
    let said = call(&format!("http://{address}/room/tea")).await?;
    serving.abort();
    names(&said, &[&address.to_string(), "is not a Visavis server"])
}

#[tokio::test]
async fn a_port_in_use_is_named() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let said = refused(LISTEN, &["serve", "--listen", &address]).await?;
    let port = taken.local_addr()?.port().to_string();
    names(&said, &[&port, "127.0.0.1", "in use", "another port"])?;
    refused(USAGE, &["serve", "--listen", "everywhere"]).await?;
    Ok(())
}

#[tokio::test]
async fn without_a_display_one_sentence_says_what_to_do() -> Result<()> {
    let mut command = bare("visavis-no-display")?;
    command.command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command.command.env_remove("WAYLAND_SOCKET");
    let mut process = Process::start(command.command, "visavis without a display")?;
    let status = process.ended(UP).await?;
    let said = process.errors();
    ensure!(status.code() == Some(NO_DISPLAY), "{status}: {said:?}");
    ensure!(process.output().is_empty() && said.len() == 1, "{said:?}");
    names(&said.join(""), &["display", "--headless"])
}

/// `visavis` with a home of its own.
struct Bare {
    command: std::process::Command,
    _home: tempfile::TempDir,
}

fn bare(name: &str) -> Result<Bare> {
    let home = tempfile::Builder::new().prefix(name).tempdir()?;
    let mut command = std::process::Command::new(common::process::VISAVIS);
    command.env("HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    Ok(Bare { command, _home: home })
}

/// A machine without camera and sound: only facts are printed, and there are none. In a
/// container or on a build machine that is the machine itself; elsewhere there is nothing to see.
#[tokio::test]
async fn a_machine_without_devices_lists_nothing() -> Result<()> {
    let there_are = |folder: &str, prefix: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
    };
    if there_are("/dev", "video") || there_are("/dev/snd", "pcm") {
        eprintln!("skipped: this machine has a camera or a sound card");
        return Ok(());
    }
    for (more, expected) in
        [(&[][..], ""), (&["--json"][..], r#"{"cameras":[],"microphones":[],"speakers":[]}"#)]
    {
        let mut command = bare("visavis-no-devices")?;
        let home = command._home.path().to_owned();
        command.command.arg("devices").args(more);
        // No sound server either.
        command.command.env_remove("PULSE_SERVER").env("XDG_RUNTIME_DIR", home);
        let mut process = Process::start(command.command, "visavis devices")?;
        let status = process.ended(UP).await?;
        let (said, errors) = (process.output().concat(), process.errors());
        ensure!(status.success() && errors.is_empty(), "{status}: {errors:?}");
        let said: String = said.split_whitespace().collect();
        ensure!(said == expected, "{said}");
    }
    Ok(())
}

/// A program at the other end that sends whatever it likes.
struct Stranger {
    socket: tokio_tungstenite::WebSocketStream<
        tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>,
    >,
}

impl Stranger {
    async fn join(server: &Server, room: &str) -> Result<Self> {
        let url = format!("{}/ws", server.url.replace("http:", "ws:"));
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        let mut this = Self { socket };
        this.send(json!({"type": "create or join", "room": room})).await?;
        this.event("joined").await?;
        Ok(this)
    }

    async fn send(&mut self, event: Value) -> Result<()> {
        Ok(self.socket.send(Message::text(event.to_string())).await?)
    }

    /// Says something to the other end.
    async fn say(&mut self, message: Value) -> Result<()> {
        self.send(json!({"type": "message", "message": message})).await
    }

    /// Waits for an event of the server, or for a message of the other end, of this type.
    async fn event(&mut self, wanted: &str) -> Result<Value> {
        let found = async {
            while let Some(frame) = self.socket.next().await {
                let Message::Text(text) = frame? else {
                    continue;
                };
                let event: Value = serde_json::from_str(&text)?;
                if event["type"] == wanted || event["message"]["type"] == wanted {
                    return Ok(event);
                }
            }
            anyhow::bail!("the server hung up before {wanted}")
        };
        tokio::time::timeout(UP, found).await.with_context(|| format!("no {wanted}"))?
    }

    /// Introduces itself, so that the other end offers; returns the mark of that call.
    async fn offered(&mut self) -> Result<Value> {
        self.say(json!({"type": "hello", "name": "Mallory"})).await?;
        self.say(json!("got user media")).await?;
        let offer = self.event("offer").await?;
        Ok(offer["message"]["call"].clone())
    }
}

/// What a stranger says is refused in a sentence that contains `words`; the program lives, and
/// the next to come gets a call.
async fn survives(
    words: &str,
    misbehave: impl AsyncFnOnce(&mut Stranger, Value) -> Result<()>,
) -> Result<()> {
    let scene = Scene::set()?;
    // The end must stand what a server without limits lets through.
    let server = Server::with(&["--message-rate", "0"]).await?;
    let mut ada = scene.call("Ada", "tea", &["--server", &server.url])?;
    ada.state("waiting", SOON).await?;
    let mut stranger = Stranger::join(&server, "tea").await?;
    let call = stranger.offered().await?;
    misbehave(&mut stranger, call).await?;
    ada.says(words, UP).await?;
    stranger.send(json!({"type": "bye"})).await?;
    drop(stranger);
    ada.state("waiting", SOON).await?;
    let mut bob = scene.call("Bob", "tea", &["--server", &server.url])?;
    ada.received(15, UP).await?;
    bob.received(15, UP).await?;
    ada.hang_up("INT").await?;
    let said = ada.process.errors().join("\n");
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

const UNUSABLE: &str = "What the other person's program sent cannot be used";

#[tokio::test]
async fn a_garbage_answer_is_refused_in_words() -> Result<()> {
    survives(UNUSABLE, async |stranger, call| {
        stranger.say(json!({"type": "answer", "sdp": "v=0\r\nnonsense", "call": call})).await
    })
    .await
}

#[tokio::test]
async fn a_garbage_offer_is_refused_in_words() -> Result<()> {
    // It collides with the offer of the other end, which does not give way, so first that one
    // is answered with garbage too.
    survives(UNUSABLE, async |stranger, call| {
        stranger.say(json!({"type": "answer", "sdp": "", "call": call})).await?;
        for sdp in ["", "garbage", "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", "\u{0}"] {
            stranger.say(json!({"type": "offer", "sdp": sdp, "call": "mallory"})).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_huge_description_is_refused_in_words() -> Result<()> {
    survives(UNUSABLE, async |stranger, call| {
        // As much as the server lets through.
        let line = "a=rtpmap:96 VP8/90000\r\n";
        let sdp = format!("v=0\r\n{}", line.repeat(50_000 / line.len()));
        stranger.say(json!({"type": "answer", "sdp": sdp, "call": call})).await
    })
    .await
}

#[tokio::test]
async fn unknown_and_malformed_messages_do_no_harm() -> Result<()> {
    survives(UNUSABLE, async |stranger, call| {
        for message in [
            json!(null),
            json!(7),
            json!([]),
            json!({}),
            json!("dance"),
            json!({"type": 7}),
            json!({"type": "from the future", "call": call}),
            json!({"type": "offer"}),
            json!({"type": "answer", "sdp": 5, "call": call}),
            json!({"type": "candidate", "candidate": {}, "call": call}),
            json!({"type": "state", "audio": "yes", "video": [1]}),
            json!({"type": "hello", "name": "x".repeat(10_000)}),
            json!({"type": "__proto__", "__proto__": {"sdp": "x"}}),
        ] {
            stranger.say(message).await?;
        }
        stranger.say(json!({"type": "answer", "sdp": "v=1", "call": call})).await
    })
    .await
}

#[tokio::test]
async fn ten_thousand_candidates_do_no_harm() -> Result<()> {
    survives("Mallory left the call.", async |stranger, call| {
        for number in 0..10_000_u32 {
            let candidate = match number % 4 {
                0 => format!("candidate:{number} 1 udp 1 127.0.0.1 {} typ host", number % 65_536),
                1 => "garbage".to_owned(),
                2 => format!("candidate:{number} 1 tcp 1 300.1.2.3 70000 typ alien"),
                _ => format!("candidate:{number} 1 udp 1 {number}.local 9 typ host"),
            };
            let message = json!({
                "type": "candidate", "label": 0, "id": "0", "candidate": candidate, "call": call,
            });
            // The server may have had enough before.
            if stranger.say(message).await.is_err() {
                break;
            }
        }
        let _ = stranger.send(json!({"type": "bye"})).await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_full_disk_ends_the_recording_and_not_the_call() -> Result<()> {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: this system has no /dev/full");
        return Ok(());
    }
    let scene = Scene::set()?;
    let server = Server::start().await?;
    let mut ada = scene.call("Ada", "tea", &["--server", &server.url])?;
    ada.state("waiting", SOON).await?;
    let arguments = ["call", "tea", "--headless", "--server", &server.url];
    let more = ["--video-source", "testcard", "--audio-source", "testcard"];
    let full = ["--audio-sink", "file:/dev/full", "--stats", "-"];
    let mut bob = Process::visavis(&[&arguments[..], &more, &full].concat())?;
    let named = |_: &[String], errors: &[String]| {
        let line = errors.iter().find(|line| line.contains("cannot use /dev/full"))?;
        line.contains("the recording ends here").then_some(())
    };
    bob.until("what is wrong", UP, named).await?;
    let pictures = |line: &Value| {
        let frames = line.pointer("/video_in/frames")?.as_u64()?;
        (frames > 15).then_some(())
    };
    bob.stats("Ada's pictures", UP, pictures).await?;
    ada.received(15, UP).await
}
