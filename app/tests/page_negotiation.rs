//! The page's negotiation by itself, in the browser it is made for: order, glare, strangers.
#![cfg(target_os = "linux")] // drives Debian's Chromium

mod common;

use anyhow::{Result, ensure};
use common::chromium::{Chromium, Options, Tab};
use common::process::Server;
use serde_json::{Value, json};

struct Bench {
    tab: Tab,
    _chromium: Chromium,
    _server: Server,
}

impl Bench {
    async fn set() -> Result<Self> {
        let server = Server::start().await?;
        let chromium = Chromium::start(Options::default()).await?;
        let tab = chromium.open(&format!("{}/", server.url)).await?;
        tab.state("lobby", common::SOON).await?;
        tab.eval(include_str!("common/negotiate.js")).await?;
        Ok(Self { tab, _chromium: chromium, _server: server })
    }

    /// What a story told in JavaScript ends with.
    async fn tell(&self, story: &str) -> Result<Value> {
        let prologue = "const {end, pair, until, up, wait} = bench;";
        self.tab.eval(&format!("(async () => {{ {prologue} {story} }})()")).await
    }
}

#[tokio::test]
async fn the_initiator_offers_once_when_both_are_there() -> Result<()> {
    let bench = Bench::set().await?;
    let told = bench
        .tell(
            "const {a, b} = pair(5);
             a.negotiation.meet(true);
             await wait(200);
             const alone = a.offers();
             b.negotiation.meet(false);
             await wait(200);
             const unsettled = a.offers();
             a.negotiation.settle();
             b.negotiation.settle();
             const connected = await up({a, b});
             await wait(300);
             const call = a.said.find(({type}) => type === 'offer').call;
             const stamped = [...a.said, ...b.said].filter(({type}) => ['offer', 'answer', 'candidate'].includes(type))
               .every((message) => message.call === call);
             return {alone, unsettled, connected, offers: [a.offers(), b.offers()], stamped, names: [a.hellos, b.hellos],
               faults: [...a.faults, ...b.faults]};",
        )
        .await?;
    let expected = json!({
        "alone": 0, "unsettled": 0, "connected": true, "offers": [1, 0], "stamped": true,
        "names": [["b"], ["a"]], "faults": [],
    });
    ensure!(told == expected, "{told}");
    Ok(())
}

#[tokio::test]
async fn both_renegotiate_at_once_and_both_end_up_stable() -> Result<()> {
    let bench = Bench::set().await?;
    let told = bench
        .tell(
            "const {a, b} = pair(100);
             for (const [one, first] of [[a, true], [b, false]]) { one.negotiation.meet(first); one.negotiation.settle(); }
             const before = await up({a, b});
             const fragments = () => [a, b].map(({pc}) => /ice-ufrag:(.*)/.exec(pc.localDescription.sdp)[1]).join();
             const old = fragments();
             for (let round = 0; round < 3; round += 1) {
               a.pc.restartIce();
               b.pc.restartIce();
               await wait(800);
             }
             const after = await up({a, b});
             return {before, after, renewed: fragments() !== old, bothOffered: a.offers() > 1 && b.offers() > 0,
               yielded: a.said.filter(({type}) => type === 'answer').length,
               opened: [a.opened, b.opened], faults: [...a.faults, ...b.faults]};",
        )
        .await?;
    let expected = json!({
        "before": true, "after": true, "renewed": true, "bothOffered": true, "yielded": 0, "opened": [1, 1], "faults": [],
    });
    ensure!(told == expected, "{told}");
    Ok(())
}

#[tokio::test]
async fn early_candidates_wait_and_strangers_are_dropped() -> Result<()> {
    let bench = Bench::set().await?;
    let told = bench
        .tell(
            "const late = [];
             const a = end('a', (message) => late.push(message));
             const answers = [];
             const b = end('b', (message) => answers.push(message));
             b.negotiation.meet(false);
             a.negotiation.meet(true);
             a.negotiation.settle();
             await a.negotiation.receive({type: 'hello', name: 'b'});
             await until(() => late.some(({type}) => type === 'candidate') && a.pc.iceGatheringState === 'complete');
             const offer = late.find(({type}) => type === 'offer');
             const candidates = late.filter(({type}) => type === 'candidate');
             for (const candidate of candidates) b.negotiation.receive(candidate);
             b.negotiation.receive({...candidates[0], call: 'another', candidate: 'candidate:nonsense'});
             b.negotiation.receive({type: 'answer', sdp: 'of a call that is over', call: 'another'});
             await b.negotiation.receive(offer);
             await until(() => answers.some(({type}) => type === 'candidate') && b.pc.iceGatheringState === 'complete');
             for (const type of ['candidate', 'answer'])
               for (const message of answers.filter((one) => one.type === type)) await a.negotiation.receive(message);
             const connected = await up({a, b});
             const {opened} = a;
             await a.negotiation.receive({...offer, call: 'another'});
             return {connected, candidates: candidates.length > 0, untouched: a.opened === opened, faults: [...a.faults, ...b.faults]};",
        )
        .await?;
    let expected = json!({"connected": true, "candidates": true, "untouched": true, "faults": []});
    ensure!(told == expected, "{told}");
    Ok(())
}

#[tokio::test]
async fn nonsense_is_named_and_harms_nothing() -> Result<()> {
    let bench = Bench::set().await?;
    let told = bench
        .tell(
            "const {a, b} = pair(1);
             for (const [one, first] of [[a, true], [b, false]]) { one.negotiation.meet(first); one.negotiation.settle(); }
             const connected = await up({a, b});
             const nonsense = [null, 7, 'what', [], {}, {type: 5}, {type: 'offer'}, {type: 'offer', sdp: 9}, {type: 'candidate', candidate: {}},
               {type: '__proto__'}, {type: 'answer', sdp: 'unasked'}];
             for (const message of nonsense) await b.negotiation.receive(message);
             const silent = b.faults.length;
             await b.negotiation.receive({type: 'offer', sdp: 'v=0 and no more', call: a.said.find(({type}) => type === 'offer').call});
             await b.negotiation.receive({type: 'candidate', label: 0, id: '0', candidate: 'candidate:nonsense'});
             const named = b.faults.length;
             const still = await up({a, b});
             await b.negotiation.receive('bye');
             return {connected, silent, named, still, byes: b.byes, closed: b.pc.signalingState};",
        )
        .await?;
    let expected = json!({
        "connected": true, "silent": 0, "named": 2, "still": true, "byes": 1, "closed": "closed",
    });
    ensure!(told == expected, "{told}");
    Ok(())
}

#[tokio::test]
async fn an_end_that_never_says_hello_is_answered_its_own_way() -> Result<()> {
    let bench = Bench::set().await?;
    let told = bench
        .tell(
            "const said = [];
             const pc = new RTCPeerConnection();
             pc.addTransceiver('video');
             const b = end('b', (message) => said.push(message));
             b.negotiation.meet(false);
             b.negotiation.settle();
             await b.negotiation.receive('got user media');
             await pc.setLocalDescription();
             await b.negotiation.receive({type: 'offer', sdp: pc.localDescription.sdp});
             pc.onicecandidate = ({candidate}) => candidate && b.negotiation.receive(
               {type: 'candidate', label: candidate.sdpMLineIndex, id: candidate.sdpMid, candidate: candidate.candidate});
             const answer = said.find(({type}) => type === 'answer');
             await pc.setRemoteDescription({type: 'answer', sdp: answer.sdp});
             let fed = 0;
             const connected = await until(() => {
               for (; fed < said.length; fed += 1) if (said[fed].type === 'candidate')
                 pc.addIceCandidate({sdpMLineIndex: said[fed].label, candidate: said[fed].candidate});
               return pc.connectionState === 'connected';
             });
             b.pc.restartIce();
             await wait(300);
             return {connected, marks: said.some((message) => 'call' in Object(message)), offers: b.offers(), faults: b.faults};",
        )
        .await?;
    let expected = json!({"connected": true, "marks": false, "offers": 0, "faults": []});
    ensure!(told == expected, "{told}");
    Ok(())
}

#[tokio::test]
async fn a_new_connection_in_the_same_call_is_begun_by_the_initiator_only() -> Result<()> {
    let bench = Bench::set().await?;
    let told = bench
        .tell(
            "const {a, b} = pair(5);
             for (const [one, first] of [[a, true], [b, false]]) { one.negotiation.meet(first); one.negotiation.settle(); }
             const before = await up({a, b});
             b.negotiation.beginAnew();
             await wait(200);
             const only = [a.opened, b.opened];
             const old = [a.pc, b.pc];
             a.negotiation.beginAnew();
             await until(() => b.opened === 2);
             const after = await up({a, b});
             return {before, only, after, opened: [a.opened, b.opened], closed: old.every(({signalingState}) => signalingState === 'closed'),
               faults: [...a.faults, ...b.faults]};",
        )
        .await?;
    let expected = json!({
        "before": true, "only": [1, 1], "after": true, "opened": [2, 2], "closed": true, "faults": [],
    });
    ensure!(told == expected, "{told}");
    Ok(())
}

/// The stories of the app's `call/path.rs`, told to its twin.
#[tokio::test]
async fn a_lost_path_is_restarted_begun_anew_and_given_up() -> Result<()> {
    let bench = Bench::set().await?;
    let told = bench
        .tell(
            "const {Path} = await import('/path.js');
             const all = (path, seated = true) => {
               const story = [];
               for (let due = path.due(seated); due !== undefined && story.length < 20; due = path.due(seated)) {
                 const remedy = path.timeout(due, seated);
                 if (remedy) story.push(`${remedy} ${due}`);
               }
               return story;
             };
             const path = (initiator, ...events) => {
               const path = new Path(initiator);
               for (const [event, now] of events) path[event](now);
               return path;
             };
             const moved = path(true, ['connected'], ['networkChanged', 10]);
             const restarted = moved.timeout(10, true);
             const unnoticed = moved.up;
             moved.connected();
             return {
               first: all(path(true, ['connected'], ['silent', 0])),
               second: all(path(false, ['connected'], ['silent', 0])).slice(0, 3),
               lineless: all(path(true, ['connected'], ['silent', 0]), false),
               moved: [restarted, unnoticed, moved.due(true) === undefined],
               never: [path(false, ['silent', 0], ['failed', 0]).due(true) === undefined, path(true, ['failed', 5]).timeout(5, true)],
             };",
        )
        .await?;
    let expected = json!({
        "first": ["restart 0", "anew 5000", "anew 17000", "anew 29000", "give up 30000"],
        "second": ["restart 2000", "restart 7000", "restart 12000"],
        "lineless": ["give up 30000"],
        "moved": ["restart", true, true],
        "never": [true, "anew"],
    });
    ensure!(told == expected, "{told}");
    Ok(())
}
