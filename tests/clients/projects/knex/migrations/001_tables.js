exports.up = async (knex) => {
  await knex.schema.createTable("users", (t) => {
    t.increments("id");
    t.string("email").notNullable().unique();
    t.timestamps(true, true);
    t.comment("who signs in");
  });
  await knex.schema.createTable("posts", (t) => {
    t.bigIncrements("id");
    t.integer("user_id").unsigned().notNullable().references("id").inTable("users").onDelete("CASCADE").index();
    t.enu("state", ["draft", "shown"], { useNative: true, enumName: "post_state" }).defaultTo("draft");
    t.jsonb("extra").defaultTo("{}");
    t.specificType("words", "text[]");
    t.text("body");
  });
};
exports.down = async (knex) => {
  await knex.schema.dropTable("posts");
  await knex.raw("DROP TYPE post_state");
  await knex.schema.dropTable("users");
};
