//go:build tools

// Package istio names the programs that tests/tools/istio builds, so that go.mod has what they need.
package istio

import (
	_ "istio.io/istio/pilot/cmd/pilot-agent"
	_ "istio.io/istio/pilot/cmd/pilot-discovery"
)
