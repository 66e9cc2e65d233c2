from absl import app, flags
FLAGS = flags.FLAGS
flags.DEFINE_float("learning_rate", 1e-3, "Rate.", lower_bound=0.0)
flags.DEFINE_integer("hidden_size", 64, "Width.")
flags.DEFINE_enum("optimizer", "adam", ["adam", "sgd"], "Which.")
flags.DEFINE_boolean("use_bn", True, "Batch norm.")
flags.DEFINE_string("workdir", "/tmp/x", "Where.")
def main(argv):
    import narf
    narf.log(loss=FLAGS.learning_rate)
if __name__ == "__main__":
    app.run(main)
