// An authorizer as people write it by hand in Go: go-control-plane for the messages, golang-jwt for the token, and no rules
// except that a valid token is required. It prints its address, and reads the secret of the tokens from JWT_SECRET.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type claims struct {
	Username string   `json:"username"`
	Admin    bool     `json:"admin"`
	Roles    []string `json:"roles"`
	jwt.RegisteredClaims
}

type authorizer struct {
	authv3.UnimplementedAuthorizationServer
	parser *jwt.Parser
	secret []byte
}

func (a *authorizer) Check(_ context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	headers := check.GetAttributes().GetRequest().GetHttp().GetHeaders()
	token, isBearer := strings.CutPrefix(headers["authorization"], "Bearer ")
	if !isBearer {
		return denied(), nil
	}
	var who claims
	key := func(*jwt.Token) (any, error) { return a.secret, nil }
	if _, err := a.parser.ParseWithClaims(token, &who, key); err != nil {
		return denied(), nil
	}
	roles := strings.Join(who.Roles, ",")
	if roles == "" {
		roles = "-"
	}
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				overwrite("x-auth-user", who.Username),
				overwrite("x-auth-roles", roles),
				overwrite("x-auth-admin", strconv.FormatBool(who.Admin)),
			},
		}},
	}, nil
}

func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		Append:       wrapperspb.Bool(false),
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func denied() *authv3.CheckResponse {
	return &authv3.CheckResponse{
		Status: &status.Status{Code: int32(codes.Unauthenticated)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized},
			Headers: []*corev3.HeaderValueOption{overwrite("www-authenticate", "Bearer")},
			Body:    "Unauthorized",
		}},
	}
}

func run() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, &authorizer{
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"HS256"}),
			jwt.WithIssuer("doorward"),
			jwt.WithAudience("doorward"),
			jwt.WithExpirationRequired(),
		),
		secret: []byte(os.Getenv("JWT_SECRET")),
	})
	fmt.Println(listener.Addr())
	return server.Serve(listener)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
