//! What the user is told, as sentences that say what to do, in both languages.

use visavis_signaling::client::Trouble;

use crate::text::Language;

/// What the user is told.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Both seats are taken.
    RoomFull(String),
    /// The other one left on purpose.
    PeerLeft(String),
    /// The other one's connection broke.
    PeerLost(String),
    /// The server cannot be reached.
    ServerLost(String),
    /// The server refused us, in its words.
    ServerRefused(String),
    /// The server is not the one it should be, or cannot prove it.
    ServerUntrusted(Trouble),
    /// Our own server does not start.
    HostFailed(String),
    /// The path to the other end is dead; what was tried says the reason.
    PathFailed,
    /// The other one has not been reached for too long.
    PeerGivenUp(String),
    /// What the other end sent could not be used.
    PeerRefused(String),
    /// Nothing can be set up at our end.
    SetupFailed(String),
    /// The microphone in use went away, and this one is used instead.
    MicrophoneInstead(String),
    /// The speaker in use went away, and this one is used instead.
    SpeakerInstead(String),
    /// Our link became too narrow for pictures.
    PicturesPaused,
    /// It carries them again.
    PicturesBack,
    /// From the server, for people.
    Server(String),
}

impl News {
    /// Whether something went wrong, or it is just news.
    pub fn is_error(&self) -> bool {
        !matches!(
            self,
            Self::PeerLeft(_)
                | Self::PeerLost(_)
                | Self::MicrophoneInstead(_)
                | Self::SpeakerInstead(_)
                | Self::Server(_)
                | Self::PicturesPaused
                | Self::PicturesBack
        )
    }

    /// The sentence.
    pub fn sentence(&self, language: Language) -> String {
        match language {
            Language::English => self.english(),
            Language::Chinese => self.chinese(),
        }
    }

    fn english(&self) -> String {
        match self {
            Self::RoomFull(room) => {
                format!("The room \"{room}\" is full: two people are in it. Choose another room.")
            }
            Self::PeerLeft(name) => format!("{} left the call.", or(name, "The other person")),
            Self::PeerLost(name) => format!(
                "{} lost the connection. Waiting for them to come back.",
                or(name, "The other person")
            ),
            Self::ServerLost(reason) => format!("{reason} Trying again."),
            Self::ServerRefused(reason) => format!("The server refused: {reason}"),
            Self::ServerUntrusted(why) => Language::English.words().untrusted(why),
            Self::HostFailed(reason) => format!("No call can be hosted here: {reason}"),
            Self::PathFailed => {
                "The connection to the other person broke. Trying again.".to_owned()
            }
            Self::PeerGivenUp(name) => format!(
                "{} could not be reached for 30 seconds: given up. The room stays open for them.",
                or(name, "The other person")
            ),
            Self::PeerRefused(reason) => {
                format!("What the other person's program sent cannot be used: {reason}")
            }
            Self::SetupFailed(reason) => {
                format!("The call cannot be set up here: {reason}. Trying again.")
            }
            Self::MicrophoneInstead(name) => format!("The microphone is now \"{name}\"."),
            Self::SpeakerInstead(name) => format!("The speaker is now \"{name}\"."),
            Self::PicturesPaused => {
                "Your connection is too slow for pictures: only your sound is sent. Pictures come \
                 back by themselves."
                    .to_owned()
            }
            Self::PicturesBack => "Your picture is sent again.".to_owned(),
            Self::Server(message) => message.clone(),
        }
    }

    fn chinese(&self) -> String {
        match self {
            Self::RoomFull(room) => format!("房间“{room}”已满：里面已有两个人。请换一个房间。"),
            Self::PeerLeft(name) => format!("{}已离开通话。", or(name, "对方")),
            Self::PeerLost(name) => format!("{}的连接中断，正在等待对方回来。", or(name, "对方")),
            Self::ServerLost(reason) => format!("与服务器的连接中断，正在重试。（{reason}）"),
            Self::ServerRefused(reason) => format!("服务器拒绝：{reason}"),
            Self::ServerUntrusted(why) => Language::Chinese.words().untrusted(why),
            Self::HostFailed(reason) => format!("无法在本机发起通话：{reason}"),
            Self::PathFailed => "与对方的连接中断，正在重试。".to_owned(),
            Self::PeerGivenUp(name) => {
                format!("30 秒内无法联系到{}，已放弃。房间仍为其保留。", or(name, "对方"))
            }
            Self::PeerRefused(reason) => format!("无法使用对方程序发来的数据：{reason}"),
            Self::SetupFailed(reason) => format!("本机无法建立通话：{reason}。正在重试。"),
            Self::MicrophoneInstead(name) => format!("现在使用麦克风“{name}”。"),
            Self::SpeakerInstead(name) => format!("现在使用扬声器“{name}”。"),
            Self::PicturesPaused => {
                "您的网络太慢，无法传送画面：目前只传送声音，画面会自动恢复。".to_owned()
            }
            Self::PicturesBack => "您的画面已恢复传送。".to_owned(),
            Self::Server(message) => message.clone(),
        }
    }
}

fn or<'a>(name: &'a str, instead: &'a str) -> &'a str {
    if name.is_empty() { instead } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nameless_peer_is_still_somebody() {
        let news = News::PeerLeft(String::new());
        assert_eq!(news.sentence(Language::English), "The other person left the call.");
        assert_eq!(news.sentence(Language::Chinese), "对方已离开通话。");
    }

    #[test]
    fn a_full_room_is_named() {
        let news = News::RoomFull("tea".to_owned());
        assert!(news.is_error());
        assert!(news.sentence(Language::English).contains("\"tea\""));
        assert!(news.sentence(Language::Chinese).contains("tea"));
    }
}
