// A service in Go behind a gateway that asks Doorward.
//
//	JWKS_URL=http://127.0.0.1:9002/.well-known/jwks.json go run . 127.0.0.1:8081
//
// /whoami reads the headers that the gateway sets. That suffices if only the gateway reaches this service. /verified also
// verifies the token, so it does not depend on that.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

type caller struct {
	User  *string  `json:"user"`
	Roles []string `json:"roles"`
	Admin bool     `json:"admin"`
}

type claims struct {
	Username string   `json:"username"`
	Roles    []string `json:"roles"`
	Admin    bool     `json:"admin"`
	jwt.RegisteredClaims
}

func fromHeaders(headers http.Header) (caller, error) {
	encoded := headers.Values("X-Auth-User")
	if len(encoded) == 0 {
		return caller{Roles: []string{}}, nil
	}
	// Blanks, commas and bytes outside ASCII are percent-encoded.
	user, err := url.PathUnescape(encoded[0])
	if err != nil {
		return caller{}, err
	}
	roles := []string{}
	if names := headers.Get("X-Auth-Roles"); names != "-" {
		roles = strings.Split(names, ",")
	}
	return caller{&user, roles, headers.Get("X-Auth-Admin") == "true"}, nil
}

func fromToken(headers http.Header, keys keyfunc.Keyfunc, parser *jwt.Parser) (caller, error) {
	scheme, token, _ := strings.Cut(headers.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return caller{}, jwt.ErrTokenMalformed
	}
	var read claims
	if _, err := parser.ParseWithClaims(token, &read, keys.Keyfunc); err != nil {
		return caller{}, err
	}
	return caller{&read.Username, read.Roles, read.Admin}, nil
}

func main() {
	// Fetches the keys at the start, every hour, and again when a token names a key that is not known yet.
	keys, err := keyfunc.NewDefault([]string{os.Getenv("JWKS_URL")})
	if err != nil {
		log.Fatal(err)
	}
	parser := jwt.NewParser(
		// A fixed list, without "none" and HS256: the token must not choose its algorithm.
		jwt.WithValidMethods([]string{"ES256"}),
		jwt.WithIssuer("doorward"),
		jwt.WithAudience("doorward"),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
	)
	answer := func(response http.ResponseWriter, who caller, err error) {
		if err != nil {
			http.Error(response, "unauthorized", http.StatusUnauthorized)
			return
		}
		response.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(response).Encode(who)
	}
	http.HandleFunc("GET /whoami", func(response http.ResponseWriter, request *http.Request) {
		who, err := fromHeaders(request.Header)
		answer(response, who, err)
	})
	http.HandleFunc("GET /verified", func(response http.ResponseWriter, request *http.Request) {
		who, err := fromToken(request.Header, keys, parser)
		answer(response, who, err)
	})
	server := http.Server{Addr: os.Args[1], ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
