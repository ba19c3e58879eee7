//! What the module inside Envoy reads: headers of requests, Doorward's answers, and configurations.

#![no_main]

use doorward_filter::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::take(bytes));
