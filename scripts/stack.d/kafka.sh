# shellcheck shell=bash
# Kafka in KRaft mode: clusters of one node, in a JVM or in a container, and one cluster of three brokers.

KAFKA_HOME=$DOWNLOADS/kafka-$KAFKA_VERSION
LIBS=$KAFKA_HOME/libs

kafka_install() { # name
  in_container "$1" || wants_container "$1" || kafka_jars
}

kafka_jars() { # and what else the suite calls
  [[ -z ${ARCHIVE:-} ]] || return 0
  need_java 17; JAVA=$(java_home 17)/bin/java
  need openssl
  need kcat
  download "$LIBS" "Kafka $KAFKA_VERSION" jars "org.apache.kafka:kafka_2.13:$KAFKA_VERSION" "org.apache.kafka:kafka-tools:$KAFKA_VERSION" \
    "org.apache.kafka:connect-mirror:$KAFKA_VERSION" org.apache.logging.log4j:log4j-slf4j-impl:2.25.4
  ARCHIVE=$KAFKA_HOME/$(cksum <<< "$JAVA $LIBS" | cut -d' ' -f1).jsa
  [[ -f $ARCHIVE ]] || archive_classes
}

archive_classes() { # a class-data archive of this JVM halves the CPU of every later start
  say "preparing fast starts"
  local DIR; DIR=$(mktemp -d)
  mkdir "$DIR/kafka-0"
  prepare_broker kafka-0 PLAINTEXT
  JVM_FLAGS="-XX:ArchiveClassesAtExit=$ARCHIVE.$$" launch kafka-0
  await kafka-0
  end kafka-0 TERM
  mv "$ARCHIVE.$$" "$ARCHIVE"
  rm -rf "$DIR"
}

jvm() { # log4j-folder class arguments...
  local home=$1 flags=${JVM_FLAGS:-}; shift
  [[ -z $flags && -f $ARCHIVE ]] && flags="-XX:SharedArchiveFile=$ARCHIVE"
  # shellcheck disable=SC2086
  detached "$JAVA" -Xmx"${SDL_STACK_HEAP:-256m}" -Xms64m "${JVM[@]}" -Xlog:disable -Xlog:all=error:stderr $flags \
    -Dlog4j2.configurationFile="file:$home/log4j2.properties" -cp "$LIBS/*" "$@"
}

kafka_run() { jvm "$DIR/$1" kafka.Kafka "$DIR/$1/server.properties"; }
kafka_answers() { grep -q 'Kafka Server started' "$DIR/$1/server.log"; }
kafka_url() { listener "$1" PLAINTEXT; }

log4j() {
  cat <<LOG
status = error
appender.err.type = Console
appender.err.name = err
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.err.ref = err
logger.up.name = kafka.server.KafkaRaftServer
logger.up.level = info
LOG
}

kafka_prepare() { # name
  if wants_container "$1"; then
    prepare_container "$1"
  elif [[ $1 == kafka-secure ]]; then
    certificates
    prepare_broker "$1" PLAINTEXT SASL_PLAINTEXT SASL_SSL SSL WRONG_NAME EXPIRED OAUTH
  elif [[ $1 == kafka3-* ]]; then
    prepare_broker "$1" PLAINTEXT PROXIED UNRESOLVED
  else
    prepare_broker "$1" PLAINTEXT PROXIED
  fi
}

quorum() { # name: prints node id, cluster id and controller addresses, comma separated; the brokers of kafka3 share them
  local file=$DIR/.kafka3 id node=1 voters=(); id=$(head -c16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '=')
  if [[ $1 != kafka3-* ]]; then echo "1 $id 127.0.0.1:$(free_port)"; return; fi
  # shellcheck disable=SC2046
  [[ $(names) == *kafka3-* && -f $file ]] || echo "$id 127.0.0.1:$(free_port),127.0.0.1:$(free_port),127.0.0.1:$(free_port)" > "$file"
  node=${1#kafka3-}
  echo "$node $(< "$file")"
}

prepare_broker() { # name listener...: write the configuration and format the data folder
  local name=$1 home=$DIR/$1 listener port node id controllers voters replicas=1 in_sync=1 listeners='' advertised='' protocols=''; shift
  read -r node id controllers < <(quorum "$name")
  if [[ $controllers == *,* ]]; then replicas=3 in_sync=2; fi
  IFS=, read -ra controllers <<< "$controllers"
  for ((port = 0; port < ${#controllers[@]}; port++)); do voters+=",$((port + 1))@${controllers[port]}"; done
  mkdir "$home/data"
  log4j > "$home/log4j2.properties"
  for listener in "$@"; do
    port=$(free_port)
    echo "$listener 127.0.0.1:$port" >> "$home/listeners"
    listeners+="$listener://127.0.0.1:$port,"
    if [[ $listener == PROXIED ]]; then                                   # advertises a port that a test's proxy owns
      port=$(free_port)
      echo "PROXY 127.0.0.1:$port" >> "$home/listeners"
    fi
    if [[ $listener == UNRESOLVED && $node == 3 ]]; then                  # the third broker advertises a name that does not resolve
      advertised+="$listener://$name.invalid:$port,"
    else
      advertised+="$listener://127.0.0.1:$port,"
    fi
    case $listener in
      SASL_* | PLAINTEXT | SSL) protocols+="$listener:$listener," ;;
      OAUTH) protocols+="$listener:SASL_PLAINTEXT," ;;
      PROXIED | UNRESOLVED) protocols+="$listener:PLAINTEXT," ;;
      *) protocols+="$listener:SSL," ;;
    esac
  done
  cat > "$home/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$node
log.dirs=$home/data
listeners=${listeners}CONTROLLER://${controllers[node - 1]}
advertised.listeners=${advertised%,}
listener.security.protocol.map=${protocols}CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=${voters#,}
auto.create.topics.enable=false
default.replication.factor=$replicas
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=6000
group.consumer.heartbeat.interval.ms=500
group.consumer.min.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
# Records with old timestamps stay.
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=1000
log.initial.task.delay.ms=1000
# A restarted broker waits until its former self has expired.
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=3000
$(settings "$name")
PROPERTIES
  local scram=()
  if [[ $name == kafka-secure ]]; then
    security >> "$home/server.properties"
    scram=(--add-scram "SCRAM-SHA-256=[name=loader,password=$PASSWORD]" --add-scram "SCRAM-SHA-512=[name=loader,password=$PASSWORD]")
  fi
  (jvm "$home" kafka.tools.StorageTool format -c "$home/server.properties" -t "$id" "${scram[@]}") > "$home/format.log" 2>&1 ||
    { cat "$home/format.log" >&2; die "$name could not be formatted"; }
}

security() { # the properties of the secure listeners
  local s m tls=$DIR/tls
  local plain="org.apache.kafka.common.security.plain.PlainLoginModule required user_loader=\"$PASSWORD\";"
  local login="org.apache.kafka.common.security.scram.ScramLoginModule required;"
  echo "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
  echo "ssl.keystore.type=PEM"
  echo "ssl.keystore.location=$tls/server-all.pem"
  echo "ssl.truststore.type=PEM"
  echo "ssl.truststore.location=$tls/ca.pem"
  echo "listener.name.ssl.ssl.client.auth=required"
  # A topic or group without an access control list is open to everyone.
  echo "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"
  echo "allow.everyone.if.no.acl.found=true"
  echo "super.users=User:ANONYMOUS"
  for s in wrong-name expired; do
    echo "listener.name.${s/-/_}.ssl.keystore.type=PEM"
    echo "listener.name.${s/-/_}.ssl.keystore.location=$tls/$s-all.pem"
  done
  for s in sasl_plaintext sasl_ssl; do
    echo "listener.name.$s.plain.sasl.jaas.config=$plain"
    for m in 256 512; do echo "listener.name.$s.scram-sha-$m.sasl.jaas.config=$login"; done
  done
  # Tokens without a signature, as Kafka's validator for tests accepts them. A session ends with its token.
  echo "listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER"
  echo "listener.name.oauth.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
  echo "listener.name.oauth.oauthbearer.connections.max.reauth.ms=3600000"
}

# --- containers -----------------------------------------------------------------------------------------------------

in_container() { [[ -f $DIR/$1/container ]]; }
engine_answers() { docker info > /dev/null 2>&1 && docker compose version > /dev/null 2>&1; }
compose() { docker compose -p "sdl-$(cksum <<< "$DIR" | cut -d' ' -f1)" --env-file "$DIR/compose.env" -f "$PARTS/compose.yml" "$@"; }

wants_container() { # name
  [[ $1 == kafka-1 || $1 == kafka-2 ]] || return 1
  case ${SDL_STACK:-local} in
    local) return 1 ;;
    auto) engine_answers ;;
    docker) engine_answers || die "no container engine answers: start one, or set SDL_STACK=local" 69 ;;
    *) die "SDL_STACK is local, docker or auto" 2 ;;
  esac
}

prepare_container() { # name: choose its ports
  local name=$1 home=$DIR/$1 listener port
  for listener in PLAINTEXT PROXIED PROXY; do
    port=$(free_port)
    echo "$listener 127.0.0.1:$port" >> "$home/listeners"
    echo "SDL_KAFKA_${name#kafka-}_$listener=$port" >> "$DIR/compose.env"
  done
  : > "$home/container"
}

# --- for tests ------------------------------------------------------------------------------------------------------

kafka_assignments() {
  local name line
  assign_listeners SDL_TEST_KAFKA kafka-
  assign_listeners SDL_TEST_KAFKA3 kafka3-
  if [[ -d $DIR/kafka-secure ]]; then
    while read -r name line; do echo "export SDL_TEST_KAFKA_$name='$line'"; done < "$DIR/kafka-secure/listeners"
    echo "export SDL_TEST_USERNAME='loader'"
  fi
  echo "export SDL_TEST_CLASSPATH='$LIBS/*'"
}

assign_listeners() { # variable name-prefix: the addresses of these servers, comma separated
  local name plain='' proxied='' proxy='' unresolved=''
  for name in $(names); do
    [[ $name == "$2"[0-9]* ]] || continue
    plain+=",$(listener "$name" PLAINTEXT)"
    proxied+=",$(listener "$name" PROXIED)"
    proxy+=",$(listener "$name" PROXY)"
    unresolved+=",$(listener "$name" UNRESOLVED)"
  done
  [[ -n $plain ]] || return 0
  echo "export $1='${plain#,}'"
  echo "export $1_PROXIED='${proxied#,}'"                                   # where the brokers listen for a proxy
  echo "export $1_PROXY='${proxy#,}'"                                       # the addresses that they advertise for it
  [[ $2 != kafka3- ]] || echo "export $1_UNRESOLVED='${unresolved#,}'"
}

kafka_tool() {
  local class=${1:-}
  [[ $# -eq 0 ]] || shift
  case $class in
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
    consume) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    produce) class=org.apache.kafka.tools.ConsoleProducer ;;
    dump) class=org.apache.kafka.tools.DumpLogSegments ;;
    transactions) class=org.apache.kafka.tools.TransactionsCommand ;;
    perf) class=org.apache.kafka.tools.ProducerPerformance ;;
    mirror) class=org.apache.kafka.connect.mirror.MirrorMaker ;;
    acls) class=org.apache.kafka.tools.AclCommand ;;
    *.*) ;;
    *) die "no tool \`$class\`: use topics, groups, configs, offsets, consume, produce, dump, transactions, perf, mirror, acls, or a class name" ;;
  esac
  kafka_jars
  mkdir -p "$DIR"
  [[ -f $DIR/log4j2.properties ]] || log4j > "$DIR/log4j2.properties"
  jvm "$DIR" "$class" "$@"
}
