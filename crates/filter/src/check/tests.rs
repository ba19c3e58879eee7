use proptest::prelude::*;

use super::*;

fn framed(response: &CheckResponse) -> Vec<u8> {
    let message = response.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

fn denied(code: i32, status: i32) -> CheckResponse {
    CheckResponse {
        status: Some(Status { code }),
        http_response: Some(HttpResponse::Denied(DeniedHttpResponse {
            status: Some(HttpStatus { code: status }),
            headers: vec![HeaderValueOption {
                header: Some(AnsweredHeader {
                    key: "WWW-Authenticate".into(),
                    value: b"Basic".into(),
                }),
            }],
            body: b"no".into(),
        })),
        dynamic_metadata: None,
    }
}

#[test]
fn a_denial_is_read_with_status_headers_and_body() {
    let answer = read(&framed(&denied(16, 401))).unwrap();
    let expected = Verdict::Answer {
        status: 401,
        headers: vec![("www-authenticate".into(), b"Basic".into())],
        body: b"no".into(),
    };
    assert!(answer.verdict == expected);
}

#[test]
fn a_contradictory_answer_is_a_fault() {
    let ok = HttpResponse::Ok(OkHttpResponse::default());
    let status = |code| Some(Status { code });
    let response = |status, http_response| CheckResponse {
        status,
        http_response,
        dynamic_metadata: None,
    };
    for contradiction in [
        CheckResponse::default(),
        response(status(0), None),
        response(None, Some(ok.clone())),
        response(status(7), Some(ok.clone())),
        response(status(-1), Some(ok)),
        denied(0, 401),
        denied(16, 0),
        denied(16, 199),
        denied(16, 600),
        denied(16, -401),
    ] {
        let read = read(&framed(&contradiction));
        assert_eq!(read.err(), Some(AnswerFault::Verdict), "{contradiction:?}");
    }
}

#[test]
fn an_incomplete_or_compressed_frame_is_refused() {
    let whole = framed(&denied(16, 401));
    for cut in 0..whole.len() {
        assert_eq!(read(&whole[..cut]).err(), Some(AnswerFault::Frame), "{cut}");
    }
    let longer = [&*whole, &[0]].concat();
    assert_eq!(read(&longer).err(), Some(AnswerFault::Frame));
    let mut compressed = whole;
    compressed[0] = 1;
    assert_eq!(read(&compressed).err(), Some(AnswerFault::Frame));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
        frame.extend(&bytes);
        let _ = read(&frame);
        let _ = read(&bytes);
    }

    #[test]
    fn a_check_request_contains_the_clients_request(
        method in "[A-Z]{1,8}",
        target in "/[a-z/]{0,20}",
        value in prop::collection::vec(any::<u8>(), 0..50),
        body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let question = Question {
            method: method.clone().into(),
            host: b"a.example".into(),
            target: target.clone().into(),
            headers: vec![(b"authorization".into(), value.clone())],
            source: Some([192, 0, 2, 7].into()),
        };
        let frame = question.frame(body.clone());
        prop_assert_eq!(frame[0], 0);
        prop_assert_eq!(u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize, frame.len() - 5);
        let attributes = CheckRequest::decode(&frame[5..]).unwrap().attributes.unwrap();
        let address = attributes.source.unwrap().address.unwrap().socket_address.unwrap();
        prop_assert_eq!(address.address, b"192.0.2.7");
        let http = attributes.request.unwrap().http.unwrap();
        prop_assert_eq!((http.method, http.path, http.raw_body), (method.into_bytes(), target.clone().into_bytes(), body));
        let headers = http.header_map.unwrap().headers;
        prop_assert_eq!((&*headers[0].key, &*headers[0].raw_value), (&b":path"[..], target.as_bytes()));
        prop_assert_eq!((&*headers[1].key, &headers[1].raw_value), (&b"authorization"[..], &value));
    }
}
