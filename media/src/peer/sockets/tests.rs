use super::*;

fn dialogue() -> Arc<Dialogue> {
    let provider = rtc::crypto::default_provider().unwrap();
    Arc::new(Dialogue::new(provider, [7; 20], Arc::new(Counters::new())))
}

/// A ClientHello as our client sends it that knows the cookie, padded to `size` bytes.
fn second_hello(size: usize) -> Vec<u8> {
    let mut body = vec![254, 253];
    body.extend([3; 32]);
    body.extend([0, 20]);
    body.extend([7; 20]);
    body.resize(size - 25, 0);
    let length = body.len() as u8;
    let mut datagram = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, length + 12];
    datagram.extend([1, 0, 0, length, 0, 1, 0, 0, 0, 0, 0, length]);
    datagram.extend(body);
    datagram
}

#[tokio::test]
async fn a_hello_in_a_batch_comes_behind_the_one_that_was_spared() {
    let inner = default_runtime().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = Considerate { inner, dialogue: dialogue() }.wrap(socket).unwrap();
    let (check, hello) = (vec![0x80; 100], second_hello(100));
    // Three of a size, and a shorter one at the end.
    let batch = [&check[..], &hello, &hello, &[9; 40]].concat();
    let mut buffer = batch.clone();
    buffer.resize(2000, 0);
    let from = ([192, 0, 2, 1], 9).into();
    let mut meta = RecvMeta::default();
    (meta.addr, meta.len, meta.stride) = (from, batch.len(), 100);
    socket.handle_received(&mut buffer, &mut meta);
    let mut came = vec![buffer[..meta.len].to_vec()];
    came.extend(locked(&socket.handed_in).datagrams.drain(..).map(|(_, datagram)| datagram));
    assert_eq!(meta.stride, meta.len);
    assert_eq!(came.len(), 5);
    assert_eq!((&came[0], &came[2], &came[3]), (&check, &hello, &hello));
    assert_eq!((came[1].len(), came[1][10], came[1][18]), (80, 0, 0), "the first record, message");
    assert_eq!(came[4], [9; 40]);
    // A batch of nothing special stays one.
    let mut meta = RecvMeta::default();
    (meta.addr, meta.len, meta.stride) = (from, 300, 100);
    let mut buffer = vec![0x80; 300];
    socket.handle_received(&mut buffer, &mut meta);
    assert_eq!((meta.len, meta.stride), (300, 100));
    assert!(locked(&socket.handed_in).datagrams.is_empty());
}

#[test]
fn handshakes_are_told_from_everything_else() {
    assert!(is_handshake(&[22, 254, 253, 0, 0]));
    assert!(is_handshake(&[20, 254, 253]));
    assert!(is_handshake(&[0x40, 1, 0, 3, 22, 254, 253]), "in a channel of a relay");
    for other in [&[23, 254, 253][..], &[0x80, 96], &[0, 1, 0, 0], &[0x40, 1, 0, 1], &[]] {
        assert!(!is_handshake(other), "{other:?}");
    }
}

#[tokio::test]
async fn a_check_that_comes_too_soon_is_said_to_have_left_until_an_answer_comes() {
    let far = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    near.set_nonblocking(true).unwrap();
    let socket = runtime(dialogue()).unwrap().wrap_udp_socket(near).unwrap();
    let (to, from) = (far.local_addr().unwrap(), socket.local_addr().unwrap());
    let message = |kind: u8, last: u8| {
        let mut bytes = vec![kind >> 4, kind & 0xf, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend([7; 12]);
        bytes.extend([0, 6, 0, 4, 0, 0, 0, last]);
        bytes
    };
    let (check, answer) = (|last| message(0x01, last), message(0x11, 0));
    for last in 1..=9 {
        assert_eq!(socket.send_to(&check(last), to).await.unwrap(), 28);
    }
    let mut buffer = [0; 64];
    far.send_to(&answer, from).await.unwrap();
    let (size, _) = socket.recv_from(&mut buffer).await.unwrap();
    assert_eq!(buffer.get(..size), Some(&answer[..]));
    tokio::time::sleep(Duration::from_millis(30)).await;
    socket.send_to(&check(10), to).await.unwrap();
    let mut came = Vec::new();
    while came.last() != Some(&10) {
        let next = tokio::time::timeout(Duration::from_secs(5), far.recv_from(&mut buffer));
        next.await.expect("the tenth").unwrap();
        came.push(buffer[27]);
    }
    assert!(came.starts_with(&[1]) && came.len() < 5, "{came:?}");
}

#[tokio::test]
async fn a_handshake_comes_three_times_and_the_rest_once() {
    let far = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    near.set_nonblocking(true).unwrap();
    let socket = runtime(dialogue()).unwrap().wrap_udp_socket(near).unwrap();
    let to = far.local_addr().unwrap();
    for datagram in [&[22, 254, 253, 7][..], &[0x80, 96, 0, 1], &[23, 254, 253]] {
        assert_eq!(socket.send_to(datagram, to).await.unwrap(), datagram.len());
    }
    let mut kinds = Vec::new();
    let mut buffer = [0; 64];
    while kinds.len() < 5 {
        let next = tokio::time::timeout(Duration::from_secs(5), far.recv_from(&mut buffer));
        let (size, _) = next.await.expect("five datagrams in all").unwrap();
        kinds.push((buffer[0], size));
    }
    assert_eq!(kinds, [(22, 4), (0x80, 4), (23, 3), (22, 4), (22, 4)]);
    let more = tokio::time::timeout(Duration::from_millis(150), far.recv_from(&mut buffer));
    assert!(more.await.is_err(), "and no more");
}
