import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.AbstractMongoBackend;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.h2.mvstore.MVStore;

/** Serves MongoDB's protocol on 127.0.0.1: MongoJava PORT FOLDER [store=file|memory] [commit.ms=N] [tls.certificate=FILE tls.key=FILE]. */
public class MongoJava {
    /** The newest that the library knows is a release which drivers of today refuse. */
    private static final MongoVersion VERSION = new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(7, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 21;
        }
    };

    /** A backend in a file, in which everything is before it is acknowledged. */
    private static class Durable extends H2Backend {
        Durable(MVStore store) {
            super(store);
        }

        @Override
        public Document handleMessage(MongoMessage message) {
            Document answer = super.handleMessage(message);
            commit();
            return answer;
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> settings = Stream.of(arguments).skip(2).map(setting -> setting.split("=", 2))
                .collect(Collectors.toMap(setting -> setting[0], setting -> setting[1], (earlier, later) -> later));
        for (String name : settings.keySet()) {
            if (!Set.of("store", "commit.ms", "tls.certificate", "tls.key").contains(name)) {
                throw new IllegalArgumentException("unknown setting `" + name + "`");
            }
        }
        MongoServer server = new MongoServer(backend(Path.of(arguments[1], "h2.mv"), settings).version(VERSION));
        if (settings.containsKey("tls.key")) {
            secure(server, Path.of(settings.get("tls.certificate")), Path.of(settings.get("tls.key")));
        }
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
    }

    private static AbstractMongoBackend backend(Path file, Map<String, String> settings) {
        String store = settings.getOrDefault("store", "file");
        if (store.equals("memory")) {
            return new MemoryBackend();
        }
        if (!store.equals("file")) {
            throw new IllegalArgumentException("`store` is `file` or `memory`, not `" + store + "`");
        }
        MVStore opened = new MVStore.Builder().fileName(file.toString()).open();
        if (!settings.containsKey("commit.ms")) {
            return new Durable(opened);
        }
        opened.setAutoCommitDelay(Integer.parseInt(settings.get("commit.ms")));
        return new H2Backend(opened);
    }

    private static void secure(MongoServer server, Path certificate, Path key) throws Exception {
        byte[] encoded = Base64.getMimeDecoder().decode(Files.readString(key).replaceAll("-----[^-]+-----", ""));
        server.enableSsl(
                KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(encoded)),
                null,
                (X509Certificate) CertificateFactory.getInstance("X.509")
                        .generateCertificate(new ByteArrayInputStream(Files.readAllBytes(certificate))));
    }
}
