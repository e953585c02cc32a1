# shellcheck shell=bash
# The certificates of a stack's secure servers.

certificates() { # makes, once per stack, two CAs, and valid and invalid certificates
  [[ ! -d $DIR/tls ]] || return 0
  need openssl
  local d; mkdir -p "$DIR"; d=$(mktemp -d "$DIR/.tls.XXXXXX")
  authority() { # name
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=sdl test $1" -keyout "$d/$1.key" -out "$d/$1.pem"
    : > "$d/$1.index"
  }
  certificate() { # name authority alternative-names [first-day last-day]
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$d/$1.key" -out "$d/$1.csr"
    printf '[ca]\ndefault_ca=a\n[a]\ndatabase=%s\nrand_serial=yes\nnew_certs_dir=%s\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\nCN=supplied\n[x]\nsubjectAltName=%s\n' \
      "$d/$2.index" "$d" "$3" > "$d/$1.cnf"
    openssl ca -batch -notext -config "$d/$1.cnf" -extensions x -cert "$d/$2.pem" -keyfile "$d/$2.key" -in "$d/$1.csr" -out "$d/$1.pem" \
      -startdate "${4:-20200101000000Z}" -enddate "${5:-20491231235959Z}"
    cat "$d/$1.key" "$d/$1.pem" "$d/$2.pem" > "$d/$1-all.pem"             # the form of Kafka's PEM key store
  }
  intermediate() { # name authority: a CA that another CA has signed
    openssl req -newkey rsa:2048 -nodes -subj "/CN=sdl test $1" -keyout "$d/$1.key" -out "$d/$1.csr"
    openssl x509 -req -in "$d/$1.csr" -CA "$d/$2.pem" -CAkey "$d/$2.key" -CAcreateserial -days 3650 -out "$d/$1.pem" \
      -extfile <(echo 'basicConstraints=critical,CA:TRUE')
    : > "$d/$1.index"
  }
  {
    authority ca                                                          # signs the servers and the client
    authority stranger-ca                                                 # not trusted by any server
    certificate server ca "DNS:localhost,IP:127.0.0.1"
    certificate wrong-name ca "DNS:elsewhere.example"
    certificate expired ca "DNS:localhost,IP:127.0.0.1" 20200101000000Z 20200201000000Z
    certificate early ca "DNS:localhost,IP:127.0.0.1" 20480101000000Z
    certificate client ca "DNS:client.example"
    certificate stranger stranger-ca "DNS:client.example"
    intermediate intermediate-ca ca
    certificate deep intermediate-ca "DNS:client.example"
    cat "$d/intermediate-ca.pem" >> "$d/deep.pem"                         # a client presents the chain below the CA
  } > "$d/openssl.log" 2>&1 || { tail -5 "$d/openssl.log" >&2; rm -rf "$d"; die "openssl could not make the certificates"; }
  chmod 755 "$d"
  mv -T "$d" "$DIR/tls" 2> /dev/null || rm -rf "$d"                       # another start may have been faster
}
