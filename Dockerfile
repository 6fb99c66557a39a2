# A static binary and CA certificates, without a shell. The binary has 41 MB, and a registry
# transfers 14 MB: make build && gzip -9 -c bin/kyclink | wc -c. html/template and excelize
# call methods by name, so that the linker keeps those that nothing else calls.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" -o /kyclink ./cmd/kyclink
# Copied as a whole: the mode of a directory that is copied itself would be lost.
RUN mkdir -p /root-files && mkdir -m 1777 /root-files/tmp

FROM scratch
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="kyclink" \
      org.opencontainers.image.description="Creates personal KYC links through FaceKi's API" \
      org.opencontainers.image.url="https://github.com/kyclink/kyclink" \
      org.opencontainers.image.source="https://github.com/kyclink/kyclink" \
      org.opencontainers.image.documentation="https://github.com/kyclink/kyclink/blob/main/README.md" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /kyclink /kyclink
COPY --from=build /root-files /
USER 65532:65532
# It asks a worker or serve. Switch it off for other commands, such as run.
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s --retries=3 CMD ["/kyclink", "health"]
ENTRYPOINT ["/kyclink"]
