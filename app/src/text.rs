//! Every visible word, in English and Chinese. A word missing in one language does not compile.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use visavis_media::sound::SoundError;
use visavis_media::source::SourceError;
use visavis_signaling::client::Trouble;

use crate::settings::LoadWarning;

/// A language of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[serde(rename = "en")]
    English,
    /// 简体中文.
    #[serde(rename = "zh-Hans")]
    Chinese,
}

impl Language {
    /// All of them, in the order the switch shows them.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// What the system's locale asks for.
    pub fn of_system() -> Self {
        sys_locale::get_locale().map_or(Self::English, |locale| Self::of_locale(&locale))
    }

    /// What a locale like `zh_CN.UTF-8` or `en-GB` asks for: Chinese of any script gets
    /// Chinese, all else English.
    pub fn of_locale(locale: &str) -> Self {
        let language = locale.split(['-', '_', '.', '@']).next().unwrap_or_default();
        if language.eq_ignore_ascii_case("zh") { Self::Chinese } else { Self::English }
    }

    /// The user's choice, else the system's.
    pub fn chosen(choice: Option<Self>) -> Self {
        choice.unwrap_or_else(Self::of_system)
    }

    /// Its name in itself.
    pub fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "中文",
        }
    }

    /// Its words.
    pub fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }
}

/// The fixed words of one language; sentences with a part to fill in are methods.
#[derive(Debug)]
#[allow(missing_docs)] // each field's English text says what it is
pub struct Words {
    language: Language,
    pub lobby_heading: &'static str,
    pub lobby_subheading: &'static str,
    pub start_tab: &'static str,
    pub join_tab: &'static str,
    pub room: &'static str,
    pub new_name: &'static str,
    pub start_call: &'static str,
    pub link_or_room: &'static str,
    pub link_hint: &'static str,
    pub server: &'static str,
    pub server_hint: &'static str,
    pub server_needed: &'static str,
    pub room_invalid: &'static str,
    pub link_invalid: &'static str,
    pub join: &'static str,
    pub your_name: &'static str,
    pub your_name_hint: &'static str,
    pub camera: &'static str,
    pub microphone: &'static str,
    pub speaker: &'static str,
    pub system_default: &'static str,
    pub no_camera_listed: &'static str,
    pub no_microphone_listed: &'static str,
    pub no_speaker_listed: &'static str,
    pub microphone_level: &'static str,
    pub echo_cancel: &'static str,
    pub noise_suppression: &'static str,
    pub auto_gain: &'static str,
    pub stereo: &'static str,
    pub recent_rooms: &'static str,
    pub hosted_here: &'static str,
    pub language_switch: &'static str,
    pub preview: &'static str,
    pub you: &'static str,
    pub camera_off: &'static str,
    pub camera_starting: &'static str,
    pub microphone_off: &'static str,
    pub turn_microphone_on: &'static str,
    pub turn_microphone_off: &'static str,
    pub turn_camera_on: &'static str,
    pub turn_camera_off: &'static str,
    pub share_screen: &'static str,
    pub stop_sharing: &'static str,
    pub devices: &'static str,
    pub full_screen: &'static str,
    pub leave_full_screen: &'static str,
    pub hang_up: &'static str,
    pub cancel: &'static str,
    pub joining: &'static str,
    /// While a seat is held for somebody whose connection broke.
    pub seat_held: &'static str,
    pub waiting: &'static str,
    pub waiting_explained: &'static str,
    pub copy: &'static str,
    pub copied: &'static str,
    pub connecting: &'static str,
    pub reconnecting: &'static str,
    pub reconnecting_explained: &'static str,
    pub server_lost: &'static str,
    pub encrypted: &'static str,
    pub the_other: &'static str,
    pub peer_muted: &'static str,
    pub peer_camera_off: &'static str,
    pub peer_paused: &'static str,
    pub pictures_paused: &'static str,
    pub peer_no_picture_yet: &'static str,
    pub remote_picture: &'static str,
    pub own_picture: &'static str,
    pub leave_question: &'static str,
    pub leave_explained: &'static str,
    pub leave: &'static str,
    pub stay: &'static str,
    pub dismiss: &'static str,
    pub just_now: &'static str,
    pub stranger_heading: &'static str,
    pub stranger_explained: &'static str,
    pub fingerprint: &'static str,
    pub trust_and_join: &'static str,
}

static ENGLISH: Words = Words {
    language: Language::English,
    lobby_heading: "Ready when you are",
    lobby_subheading: "Encrypted · just the two of you",
    start_tab: "Start a call",
    join_tab: "Join a call",
    room: "Room",
    new_name: "New name",
    start_call: "Start call",
    link_or_room: "Invite link or room",
    link_hint: "Paste a link, or type a room's name",
    server: "Server",
    server_hint: "https://192.168.1.7:8443",
    server_needed: "Say which server the room is on, or paste the whole link",
    room_invalid: "Use 1 to 64 letters, digits, hyphens, dots or underscores",
    link_invalid: "This link names no room: it should look like https://HOST/room/NAME",
    join: "Join",
    your_name: "Your name",
    your_name_hint: "Shown to the other person",
    camera: "Camera",
    microphone: "Microphone",
    speaker: "Speaker",
    system_default: "System default",
    no_camera_listed: "No camera found",
    no_microphone_listed: "No microphone found",
    no_speaker_listed: "No speaker found",
    microphone_level: "Microphone level",
    echo_cancel: "Cancel echo",
    noise_suppression: "Suppress noise",
    auto_gain: "Level the loudness",
    stereo: "Music in stereo (use headphones)",
    recent_rooms: "Recent rooms",
    hosted_here: "hosted here",
    language_switch: "Language",
    preview: "Your picture, as in a mirror",
    you: "You",
    camera_off: "Your camera is off",
    camera_starting: "Starting the camera…",
    microphone_off: "Microphone off",
    turn_microphone_on: "Turn the microphone on",
    turn_microphone_off: "Turn the microphone off",
    turn_camera_on: "Turn the camera on",
    turn_camera_off: "Turn the camera off",
    share_screen: "Share the screen",
    stop_sharing: "Stop sharing the screen",
    devices: "Devices",
    full_screen: "Full screen",
    leave_full_screen: "Leave full screen",
    hang_up: "Hang up",
    cancel: "Cancel",
    joining: "Reaching the room…",
    seat_held: "Waiting for the seat…",
    waiting: "Waiting for the other person",
    waiting_explained: "Send this link. It opens in this app or in a browser.",
    copy: "Copy link",
    copied: "Copied",
    connecting: "Connecting…",
    reconnecting: "Reconnecting…",
    reconnecting_explained: "The connection was lost. The call goes on as soon as it is back.",
    server_lost: "Reconnecting to the server…",
    encrypted: "Encrypted",
    the_other: "Guest",
    peer_muted: "Muted",
    peer_camera_off: "Camera is off",
    peer_paused: "Their connection is too slow for pictures just now",
    pictures_paused: "Pictures paused: slow connection",
    peer_no_picture_yet: "Waiting for the picture…",
    remote_picture: "Picture of the other person",
    own_picture: "Your own picture",
    leave_question: "Leave the call?",
    leave_explained: "The other person stays in the room.",
    leave: "Leave",
    stay: "Stay",
    dismiss: "Dismiss",
    just_now: "just now",
    stranger_heading: "Is this the right server?",
    stranger_explained: "Nobody known vouches for this server. Ask whoever runs it to read out its \
                         fingerprint, and compare. A link that ends in #fp=… makes this needless.",
    fingerprint: "Fingerprint",
    trust_and_join: "Trust and join",
};

static CHINESE: Words = Words {
    language: Language::Chinese,
    lobby_heading: "准备好了吗？",
    lobby_subheading: "加密 · 一对一通话",
    start_tab: "发起通话",
    join_tab: "加入通话",
    room: "房间",
    new_name: "换一个名称",
    start_call: "开始通话",
    link_or_room: "邀请链接或房间名",
    link_hint: "粘贴链接，或输入房间名",
    server: "服务器",
    server_hint: "https://192.168.1.7:8443",
    server_needed: "请填写房间所在的服务器，或粘贴完整链接",
    room_invalid: "请使用 1 到 64 个文字、数字、连字符、句点或下划线",
    link_invalid: "链接中没有房间名，正确的格式是 https://主机/room/房间名",
    join: "加入",
    your_name: "你的名字",
    your_name_hint: "对方会看到这个名字",
    camera: "摄像头",
    microphone: "麦克风",
    speaker: "扬声器",
    system_default: "系统默认",
    no_camera_listed: "未找到摄像头",
    no_microphone_listed: "未找到麦克风",
    no_speaker_listed: "未找到扬声器",
    microphone_level: "麦克风音量",
    echo_cancel: "消除回声",
    noise_suppression: "抑制噪声",
    auto_gain: "自动调节音量",
    stereo: "立体声音乐（请戴耳机）",
    recent_rooms: "最近的房间",
    hosted_here: "本机房间",
    language_switch: "语言",
    preview: "你的画面（镜像）",
    you: "我",
    camera_off: "摄像头已关闭",
    camera_starting: "正在打开摄像头…",
    microphone_off: "麦克风已关闭",
    turn_microphone_on: "打开麦克风",
    turn_microphone_off: "关闭麦克风",
    turn_camera_on: "打开摄像头",
    turn_camera_off: "关闭摄像头",
    share_screen: "共享屏幕",
    stop_sharing: "停止共享屏幕",
    devices: "设备",
    full_screen: "全屏",
    leave_full_screen: "退出全屏",
    hang_up: "挂断",
    cancel: "取消",
    joining: "正在进入房间…",
    seat_held: "正在等待座位空出…",
    waiting: "正在等待对方加入",
    waiting_explained: "把这个链接发给对方，用本应用或浏览器都能打开。",
    copy: "复制链接",
    copied: "已复制",
    connecting: "正在连接…",
    reconnecting: "正在重新连接…",
    reconnecting_explained: "连接已断开，恢复后通话会自动继续。",
    server_lost: "正在重新连接服务器…",
    encrypted: "已加密",
    the_other: "对方",
    peer_muted: "已静音",
    peer_camera_off: "对方摄像头已关闭",
    peer_paused: "对方网络太慢，暂时无法传送画面",
    pictures_paused: "画面已暂停：网络太慢",
    peer_no_picture_yet: "正在等待对方的画面…",
    remote_picture: "对方的画面",
    own_picture: "你自己的画面",
    leave_question: "要离开通话吗？",
    leave_explained: "对方会留在房间里。",
    leave: "离开",
    stay: "留下",
    dismiss: "知道了",
    just_now: "刚刚",
    stranger_heading: "这是正确的服务器吗？",
    stranger_explained: "没有可信机构为此服务器作证。请让服务器的管理者读出指纹并核对。\
                         使用以 #fp=… 结尾的链接则无需核对。",
    fingerprint: "指纹",
    trust_and_join: "信任并加入",
};

impl Words {
    /// Whether these are the same words.
    pub fn is(&self, other: &Self) -> bool {
        self.language == other.language
    }

    fn pick(&self, english: String, chinese: String) -> String {
        match self.language {
            Language::English => english,
            Language::Chinese => chinese,
        }
    }

    /// `Room maple-river`.
    pub fn room_named(&self, room: &str) -> String {
        self.pick(format!("Room {room}"), format!("房间 {room}"))
    }

    /// What to do in a room that has no link to pass on.
    pub fn no_invite(&self, room: &str) -> String {
        self.pick(
            format!(
                "No other machine can reach this one, so there is no link to send. Connect it to \
                 a network and start again; on this machine, anyone can join the room {room}."
            ),
            format!(
                "其他设备无法访问本机，所以没有可以发送的链接。请先联网再重新发起；\
                 在本机上仍可加入房间 {room}。"
            ),
        )
    }

    /// How long ago a room was entered, coarsely.
    pub fn ago(&self, passed: Duration) -> String {
        let minutes = passed.as_secs() / 60;
        let (english, chinese, count) = match minutes {
            0 => return self.just_now.to_owned(),
            1..60 => ("minute", "分钟前", minutes),
            60..1440 => ("hour", "小时前", minutes / 60),
            _ => ("day", "天前", minutes / 1440),
        };
        let plural = if count == 1 { "" } else { "s" };
        self.pick(format!("{count} {english}{plural} ago"), format!("{count} {chinese}"))
    }

    /// Goes back to a recent room.
    pub fn rejoin(&self, room: &str) -> String {
        self.pick(format!("Back to {room}"), format!("回到 {room}"))
    }

    /// The other person left; `name` may be empty.
    pub fn peer_left(&self, name: &str) -> String {
        let name = if name.is_empty() { self.the_other } else { name };
        self.pick(format!("{name} left the call."), format!("{name}已离开通话。"))
    }

    /// Two people are in the room already.
    pub fn room_full(&self, room: &str) -> String {
        self.pick(
            format!("The room {room} is full: two people are in it. Try again later, or agree on another room."),
            format!("房间 {room} 已满（已有两人）。请稍后再试，或换一个房间。"),
        )
    }

    /// Why a server is not taken for the right one, and what to do.
    pub fn untrusted(&self, why: &Trouble) -> String {
        let chinese = match why {
            Trouble::WrongCertificate(server) => format!(
                "{server} 上的服务器不是链接所指的服务器：证书不同，可能有人冒充。请通过可信的方式重新索取链接。"
            ),
            Trouble::ChangedCertificate { server, fingerprint } => format!(
                "{server} 的证书与你之前信任的不同，可能有人冒充。请向服务器的管理者索取新的链接。\
                 （现在的指纹：{}）",
                fingerprint.grouped()
            ),
            Trouble::UnknownCertificate { server, fingerprint } => format!(
                "没有可信机构为 {server} 作证。请索取以 #fp=… 结尾的链接，或核对指纹：{}",
                fingerprint.grouped()
            ),
            Trouble::BadCertificate { server, reason } => {
                format!("{server} 的证书无法使用（{reason}）：请告知服务器的管理者。")
            }
            Trouble::NotSecure(server) => format!(
                "{server} 应当证明自己的身份，却没有使用 TLS，可能有人冒充。请向服务器的管理者索取链接。"
            ),
            other => other.to_string(),
        };
        self.pick(why.to_string(), chinese)
    }

    /// The server does not answer.
    pub fn server_unreachable(&self, server: &str, reason: &str) -> String {
        self.pick(
            format!("The server {server} cannot be reached ({reason}). Check the link and that both machines are on the same network."),
            format!("无法连接服务器 {server}（{reason}）。请检查链接，并确认两台设备在同一网络中。"),
        )
    }

    /// The settings file was not usable.
    pub fn settings_warning(&self, warning: &LoadWarning) -> String {
        let chinese = match warning {
            LoadWarning::Damaged { path, reason, kept } => format!(
                "设置文件 {} 已损坏（{reason}），现使用默认设置，原文件保存为 {}。",
                path.display(),
                kept.display()
            ),
            LoadWarning::Unreadable { path, reason } => format!(
                "无法读取设置文件 {}（{reason}），现使用默认设置，请检查文件权限。",
                path.display()
            ),
        };
        self.pick(sentence(&warning.to_string()), chinese)
    }

    /// Why there is no picture, and what to do.
    pub fn source_error(&self, error: &SourceError) -> String {
        let chinese = match error {
            SourceError::NoCamera => "未找到摄像头：请插上摄像头，或不带视频通话。".to_owned(),
            SourceError::UnknownCamera { wanted, available } => {
                format!("没有名为“{wanted}”的摄像头：`visavis devices` 列出了 {available}。")
            }
            SourceError::Busy(name) => {
                format!("摄像头“{name}”正被其他程序占用：请关闭该程序后重试。")
            }
            SourceError::Denied(name) => {
                format!(
                    "没有权限打开摄像头“{name}”：请允许当前用户使用它（Linux 上加入 video 组）。"
                )
            }
            SourceError::Unplugged(name) => format!("摄像头“{name}”已被拔出。"),
            SourceError::Camera { name, reason } => {
                format!("摄像头“{name}”无法使用：{reason}。")
            }
            SourceError::Screen(reason) => format!("无法共享屏幕：{reason}。"),
            SourceError::File { path, reason } => format!("无法播放 {path}：{reason}。"),
        };
        self.pick(sentence(&error.to_string()), chinese)
    }

    /// Why there is no sound, and what to do.
    pub fn sound_error(&self, error: &SoundError) -> String {
        let device = |kind: &str| {
            if kind == "speaker" { self.speaker } else { self.microphone }
        };
        let chinese = match error {
            SoundError::NoDevice { kind } => {
                format!("未找到{}：请插上设备，或启动声音服务。", device(kind))
            }
            SoundError::UnknownDevice { kind, wanted, available } => {
                let kind = device(kind);
                format!("没有名为“{wanted}”的{kind}：`visavis devices` 列出了 {available}。")
            }
            SoundError::Device { kind, name, reason } => {
                format!("{}“{name}”无法使用：{reason}。", device(kind))
            }
            SoundError::File { path, reason } => format!("无法使用 {path}：{reason}。"),
        };
        self.pick(sentence(&error.to_string()), chinese)
    }
}

/// An error's message as a sentence of its own.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    let stop = if message.ends_with(['.', '!', '?', '。']) { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), letters.as_str())
}

/// A call's length: `04:07`, or `1:04:07` from an hour on.
pub fn call_time(passed: Duration) -> String {
    let seconds = passed.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 {
        format!("{minutes:02}:{seconds:02}")
    } else {
        format!("{hours}:{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_decides_the_language() {
        for chinese in ["zh_CN.UTF-8", "zh-Hans-CN", "zh", "ZH-TW", "zh_HK@cantonese"] {
            assert_eq!(Language::of_locale(chinese), Language::Chinese, "{chinese}");
        }
        for english in ["en_US.UTF-8", "C", "", "de-DE", "zhuang"] {
            assert_eq!(Language::of_locale(english), Language::English, "{english}");
        }
        assert_eq!(Language::chosen(Some(Language::Chinese)), Language::Chinese);
    }

    #[test]
    fn times_read_well_in_both_languages() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(ENGLISH.ago(minutes(0)), "just now");
        assert_eq!(ENGLISH.ago(minutes(1)), "1 minute ago");
        assert_eq!(ENGLISH.ago(minutes(180)), "3 hours ago");
        assert_eq!(CHINESE.ago(minutes(3000)), "2 天前");
        assert_eq!(call_time(Duration::from_secs(768)), "12:48");
        assert_eq!(call_time(Duration::from_secs(3600 + 61)), "1:01:01");
    }

    #[test]
    fn errors_become_sentences_in_both_languages() {
        let busy = SourceError::Busy("Integrated Camera".into());
        assert_eq!(
            ENGLISH.source_error(&busy),
            "The camera \"Integrated Camera\" is in use by another program: close that program \
             and try again."
        );
        assert!(CHINESE.source_error(&busy).contains("占用"));
        let silent = SoundError::NoDevice { kind: "microphone" };
        assert!(CHINESE.sound_error(&silent).starts_with("未找到麦克风"));
        assert!(ENGLISH.sound_error(&silent).starts_with("No microphone was found"));
    }

    #[test]
    fn who_a_server_is_not_is_said_in_both_languages() {
        let server: visavis_signaling::ServerUrl = "https://10.0.0.2:8443".parse().unwrap();
        let fingerprint = visavis_signaling::Fingerprint::of_public_key(b"a key");
        for trouble in [
            Trouble::WrongCertificate(server.clone()),
            Trouble::ChangedCertificate { server: server.clone(), fingerprint },
            Trouble::UnknownCertificate { server: server.clone(), fingerprint },
            Trouble::NotSecure(server.clone()),
            Trouble::BadCertificate { server, reason: "it has expired".into() },
        ] {
            let (english, chinese) = (ENGLISH.untrusted(&trouble), CHINESE.untrusted(&trouble));
            assert!(english.contains("https://10.0.0.2:8443"), "{english}");
            assert!(
                chinese.contains("https://10.0.0.2:8443") && chinese.contains("。"),
                "{chinese}"
            );
        }
    }

    #[test]
    fn no_word_is_empty_and_none_is_left_untranslated() {
        // The debug form lists every field as `name: "text"`.
        let listed = |words: &Words| -> Vec<(String, String)> {
            format!("{words:#?}")
                .lines()
                .filter_map(|line| line.trim().trim_end_matches(',').split_once(": \""))
                .map(|(name, text)| (name.to_owned(), text.trim_end_matches('"').to_owned()))
                .collect()
        };
        let (english, chinese) = (listed(&ENGLISH), listed(&CHINESE));
        assert!(english.len() > 50, "{}", english.len());
        for ((name, here), (_, there)) in english.iter().zip(&chinese) {
            assert!(!here.is_empty() && !there.is_empty(), "{name}");
            assert!(here != there || name == "server_hint", "{name} is not translated: {here}");
        }
    }
}
