# shellcheck shell=bash
# OpenSearch and Elasticsearch: one node, from the distributions that Maven Central has.

release() { # kind version: prints the version that is meant
  local version=$2
  if [[ -z $version ]]; then                                              # the newest for which there is a Java here
    case $1 in
      opensearch) if java_home 21 > /dev/null; then version=3; else version=2; fi ;;
      elasticsearch) if java_home 21 > /dev/null; then version=9; else version=8; fi ;;
    esac
  fi
  case $1-$version in
    opensearch-3) echo 3.6.0 ;;
    opensearch-2) echo 2.19.6 ;;
    elasticsearch-9) echo 9.1.4 ;;
    elasticsearch-8) echo 8.19.21 ;;
    *) echo "$version" ;;
  esac
}

search_install() { # name version
  local kind release java=21 source=$PARTS/elasticsearch/SecurityAnalysis.java
  kind=$(kind "$1") release=$(release "$kind" "$2")
  case $kind-$release in opensearch-[12].* | elasticsearch-[78].*) java=17 ;; esac
  need_java $java; SEARCH_JAVA=$(java_home $java)
  need curl
  ((UID != 0)) || need setpriv util-linux
  DISTRIBUTION=$DOWNLOADS/$kind-$release
  if [[ $kind == elasticsearch ]]; then
    DISTRIBUTION+=-$(cksum < "$source" | cut -d' ' -f1)
    [[ -d $DISTRIBUTION || -x $SEARCH_JAVA/bin/javac ]] || apt_install "a compiler for Java $java" "openjdk-$java-jdk-headless"
  fi
  download "$DISTRIBUTION" "$kind $release" "${kind}_unpack" "$release" "$source"
  DISTRIBUTION+=/$kind-$release
}

opensearch_unpack() { # release
  maven unpack -Dartifact="org.opensearch.distribution.integ-test-zip:opensearch:$1:zip" -DoutputDirectory=. && rm -rf target
}

elasticsearch_unpack() { # release plugin-source: and adds our plugin
  local plugin=elasticsearch-$1/plugins/security-analysis
  maven unpack -Dartifact="org.elasticsearch.distribution.integ-test-zip:elasticsearch:$1:zip" -DoutputDirectory=. && rm -rf target &&
    mkdir -p "$plugin/classes" && "$SEARCH_JAVA/bin/javac" -nowarn -cp "elasticsearch-$1/lib/*" -d "$plugin/classes" "$2" &&
    "$SEARCH_JAVA/bin/jar" --create --file "$plugin/security-analysis.jar" -C "$plugin/classes" . && rm -r "$plugin/classes" || return
  cat > "$plugin/plugin-descriptor.properties" <<PROPERTIES
description=what the security index needs
name=security-analysis
version=$1
classname=SecurityAnalysis
java.version=17
elasticsearch.version=$1
PROPERTIES
}

search_prepare() { # name
  local name=$1 home=$DIR/$1 kind port scheme=HTTP; kind=$(kind "$1")
  case $name in
    elasticsearch-*secure*) scheme=HTTPS ;;
    *secure*) die "$kind comes without security here" 2 ;;
  esac
  mkdir "$home"/{data,logs,tmp}
  cp -r "$DISTRIBUTION/config" "$home/config"
  # What the defaults write beside the distribution, and the heap and the garbage collector that are not wanted.
  sed -i -e '/gc\.log/d' -e '/HeapDump/d' -e '/hs_err/d' -e '/^-Xm[sx]/d' -e '/UseG1GC/d' "$home/config/jvm.options"
  port=$(free_port)
  cat > "$home/config/$kind.yml" <<SETTINGS
cluster.name: sdl-stack
node.name: $name
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: $(free_port)
path.data: $home/data
path.logs: $home/logs
cluster.routing.allocation.disk.threshold_enabled: false
SETTINGS
  if [[ $scheme == HTTPS ]]; then
    certificates
    cp -r "$DIR/tls" "$home/config/tls"
    cat >> "$home/config/$kind.yml" <<SETTINGS
xpack.security.enabled: true
xpack.security.http.ssl.enabled: true
xpack.security.http.ssl.certificate: tls/server.pem
xpack.security.http.ssl.key: tls/server.key
xpack.security.http.ssl.certificate_authorities: tls/ca.pem
SETTINGS
    ES_JAVA_HOME=$SEARCH_JAVA ES_PATH_CONF=$home/config "$DISTRIBUTION/bin/elasticsearch-keystore" add -x -f bootstrap.password \
      <<< "$PASSWORD" > "$home/keystore.log" 2>&1 || { cat "$home/keystore.log" >&2; die "$name could not be given a password"; }
  elif [[ $kind == elasticsearch ]]; then
    echo "xpack.security.enabled: false" >> "$home/config/$kind.yml"
  fi
  echo "$scheme 127.0.0.1:$port" > "$home/listeners"
}

search_run() { # name
  local home=$DIR/$1 kind heap=${SDL_STACK_HEAP:-512m} setting settings=(); kind=$(kind "$1")
  while read -r setting; do settings+=("-E$setting"); done < <(settings "$1")              # these win over the file's
  export HOME=$home OPENSEARCH_JAVA_HOME=$SEARCH_JAVA OPENSEARCH_PATH_CONF=$home/config OPENSEARCH_TMPDIR=$home/tmp
  export ES_JAVA_HOME=$SEARCH_JAVA ES_PATH_CONF=$home/config ES_TMPDIR=$home/tmp
  export OPENSEARCH_JAVA_OPTS="-Xms$heap -Xmx$heap ${JVM[*]} -XX:-AlwaysPreTouch" ES_JAVA_OPTS="-Xms$heap -Xmx$heap ${JVM[*]} -XX:-AlwaysPreTouch"
  unprivileged "$DISTRIBUTION/bin/$kind" -p "$home/server.pid" "${settings[@]}"
}

unprivileged() { # command...: both refuse to run as root; the account `nobody` then needs root's right to this stack's files
  ((UID != 0)) || set -- setpriv --securebits=+no_setuid_fixup --reuid nobody --regid "$(id -g nobody)" --clear-groups \
    --inh-caps=-all,+dac_override --ambient-caps=-all,+dac_override "$@"
  detached "$@"
}

search_answers() { # name: all that it had is there to be written
  curl -sfk -m 5 --noproxy '*' -u "elastic:$PASSWORD" -o /dev/null "$(search_url "$1")/_cluster/health?wait_for_status=yellow&timeout=2s"
}

search_url() { # name
  local scheme address; read -r scheme address < "$DIR/$1/listeners"
  echo "${scheme,,}://$address"
}
