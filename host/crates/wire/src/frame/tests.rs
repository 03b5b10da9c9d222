use proptest::prelude::*;

use super::*;
use crate::limits::BATCH_BYTES_MAX;

fn header() -> Header {
    Header {
        flags: FLAG_RETAIN,
        auth: 0,
        cause_depth: 3,
        hops: 2,
        time: 0x0000_7fff_ffff_ffff,
        id: u64::MAX,
        channel: 9,
    }
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_malformed_trace_is_none() {
    let map = |text: &str| {
        let pairs = std::collections::BTreeMap::from([("t", text), ("i", "key")]);
        Extras::from_bytes(&serde_ipld_dagcbor::to_vec(&pairs).unwrap()).unwrap()
    };
    assert_eq!(map(TRACE).traceparent.unwrap().as_str(), TRACE);
    for bad in ["", "00-xyz", &TRACE.to_uppercase(), &format!("{TRACE}-")] {
        let extras = map(bad);
        assert_eq!((extras.traceparent, extras.idempotency_key.as_deref()), (None, Some("key")), "{bad}");
    }
}

#[test]
fn a_tracestate_goes_with_its_trace() {
    let extras = Extras {
        traceparent: Some(TRACE.parse().unwrap()),
        tracestate: Some("rojo=1,congo=2".parse().unwrap()),
        ..Extras::default()
    };
    assert_eq!(Extras::from_bytes(&extras.to_bytes()).unwrap(), extras);
    let read = |trace: &str, state: &str| {
        let pairs = std::collections::BTreeMap::from([("t", trace), ("s", state)]);
        let extras = Extras::from_bytes(&serde_ipld_dagcbor::to_vec(&pairs).unwrap()).unwrap();
        (extras.traceparent.is_some(), extras.tracestate.map(|state| state.to_string()))
    };
    assert_eq!(read(TRACE, "rojo=1"), (true, Some("rojo=1".to_owned())));
    // The trace is as good without; a state without its trace is none.
    for bad in ["", "rojo", "rojo=1,rojo=2", &format!("a={}", "x".repeat(520))] {
        assert_eq!(read(TRACE, bad), (true, None), "{bad}");
    }
    assert_eq!(read("00-xyz", "rojo=1"), (false, None));
}

/// Who is older reads what is newer: extras with keys that it does not know are read without those.
#[test]
fn unknown_extras_are_passed_over() {
    let pairs = std::collections::BTreeMap::from([("t", TRACE), ("zz", "later")]);
    let extras = Extras::from_bytes(&serde_ipld_dagcbor::to_vec(&pairs).unwrap()).unwrap();
    assert_eq!(extras, Extras { traceparent: Some(TRACE.parse().unwrap()), ..Extras::default() });
}

#[test]
fn message_round_trip() {
    let mut out = BytesMut::new();
    put_message(header(), &[], b"21.5", &mut out);
    assert_eq!(out.len(), HEADER_BYTES + 4);
    assert_eq!(frame_len(&out), Some(out.len()));
    assert_eq!(Frame::parse(&out), Ok(Frame::Message { header: header(), extras: &[], payload: b"21.5" }));

    let extras = Extras { traceparent: Some(TRACE.parse().unwrap()), ..Extras::default() }.to_bytes();
    out.clear();
    put_call(header(), &extras, b"[1,2]", &mut out);
    let Ok(Frame::Call { header: h, extras: e, payload }) = Frame::parse(&out) else { panic!("a call") };
    assert_eq!((h.flags, payload), (FLAG_RETAIN | FLAG_EXTRAS, &b"[1,2]"[..]));
    assert_eq!(Extras::from_bytes(e).unwrap().traceparent, Some(TRACE.parse().unwrap()));
}

#[test]
fn forwarding_patches_hop_channel_and_call_only() {
    let mut out = BytesMut::new();
    put_call(header(), &[], b"payload", &mut out);
    let original = out.clone();
    out.clear();
    put_forwarded(&original, 77, Some(5), &mut out);
    let expected = Header { hops: 3, channel: 77, id: 5, ..header() };
    assert_eq!(Frame::parse(&out), Ok(Frame::Call { header: expected, extras: &[], payload: b"payload" }));
}

#[test]
fn short_frames_round_trip() {
    let mut out = BytesMut::new();
    let mut check = |put: &dyn Fn(&mut BytesMut), expected: Frame<'_>| {
        out.clear();
        put(&mut out);
        assert_eq!(frame_len(&out), Some(out.len()));
        assert_eq!(Frame::parse(&out), Ok(expected));
        for cut in 0..out.len().min(16) {
            assert!(Frame::parse(&out[..cut]).is_err(), "cut at {cut}: {expected:?}");
        }
    };
    check(&|out| put_channel(5, b"body", out), Frame::Channel { number: 5, body: b"body" });
    check(&|out| put_forget(5, out), Frame::Forget { number: 5 });
    check(&|out| put_reply(5, Outcome::Answer(b"8"), out), Frame::Reply { call: 5, outcome: Outcome::Answer(b"8") });
    check(&|out| put_cancel(5, out), Frame::Cancel { call: 5 });
    check(&|out| put_sync(5, out), Frame::Sync { token: 5 });
    for taken in [Taken::All, Taken::NotDenied] {
        check(&|out| put_receipt(Lane::Low, taken, 5, out), Frame::Receipt { lane: 2, taken, token: 5 });
    }
    check(&|out| put_credit(5, 1 << 40, out), Frame::Credit { subscription: 5, total: 1 << 40 });
    check(&|out| put_batch_header(5, 6, 0, out), Frame::Batch { subscription: 5, count: 6, frames: &[] });
}

#[test]
fn refuses_what_it_cannot_vouch_for() {
    let mut out = BytesMut::new();
    put_message(Header { auth: 1, ..header() }, &[], b"", &mut out);
    assert_eq!(Frame::parse(&out), Err(FrameError::Auth(1)));
    out.clear();
    put_message(Header { cause_depth: 17, ..header() }, &[], b"", &mut out);
    assert_eq!(Frame::parse(&out), Err(FrameError::CauseDepth(17)));
    out.clear();
    put_message(Header { flags: 0, ..header() }, &[], b"", &mut out);
    set_flags(&mut out, FLAG_EXTRAS);
    assert_eq!(Frame::parse(&out), Err(FrameError::Truncated { kind: 1 }));
    assert_eq!(Frame::parse(&[1, 0, 0, 0, 200]), Ok(Frame::Unknown { kind: 200 }));
    let announced = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
    let refused = Reassembly::default().next(&announced, &mut 0, FRAME_BYTES_MAX);
    assert_eq!(refused, Err(FrameError::TooLong { bytes: FRAME_BYTES_MAX + 1, max: FRAME_BYTES_MAX }));
}

/// Puts the pieces of `input` cut at `cuts` through a [`Reassembly`] and gives the frames it finds.
fn reassembled(input: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut borders: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    borders.extend([0, input.len()]);
    borders.sort_unstable();
    let mut reassembly = Reassembly::default();
    let mut found = Vec::new();
    for range in borders.windows(2) {
        let piece = &input[range[0]..range[1]];
        let mut at = 0;
        while let Some(frame) = reassembly.next(piece, &mut at, BATCH_BYTES_MAX).unwrap() {
            found.push(match frame {
                Piece::InPlace(range) => piece[range].to_vec(),
                Piece::Assembled(buffer) => {
                    let frame = buffer.clone();
                    reassembly.recycle(buffer);
                    frame
                }
            });
        }
    }
    assert_eq!(reassembly.pending_bytes(), 0);
    found
}

proptest! {
    /// However a stream is cut into pieces, the same frames come out.
    #[test]
    fn any_cut_gives_the_same_frames(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
                                     cuts in prop::collection::vec(any::<usize>(), 0..30)) {
        let mut out = BytesMut::new();
        for payload in &payloads {
            put_message(header(), &[], payload, &mut out);
        }
        let frames = reassembled(&out, &cuts);
        prop_assert_eq!(frames.len(), payloads.len());
        for (frame, sent) in frames.iter().zip(&payloads) {
            let Frame::Message { payload, .. } = Frame::parse(frame).unwrap() else { panic!("a message") };
            prop_assert_eq!(payload, &sent[..]);
        }
        let again: Result<Vec<_>, _> = Frames::new(&out).collect();
        prop_assert_eq!(again.unwrap().len(), payloads.len());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Frame::parse(&bytes);
        for frame in Frames::new(&bytes).flatten() {
            let _ = Frame::parse(frame);
        }
        let _ = Extras::from_bytes(&bytes);
        let _ = crate::Channel::from_bytes(&bytes);
        let _ = Outcome::decode_error(&bytes);
    }
}
